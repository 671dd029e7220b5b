"""State in host memory or on disk changes where it lies, not one number; 8-bit moments change the last digits."""

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from launch import SMALL, Ended, environment, launch, train

pytestmark = [pytest.mark.run, pytest.mark.slow]

EIGHT = (*SMALL, "optim.max_steps=8", "checkpoint.every=4", "optim.micro_batch_pairs=4", "name=run")
CHECK = (
    "from deepspeed.ops.op_builder import AsyncIOBuilder as B; raise SystemExit(not B().is_compatible(verbose=False))"
)


@pytest.fixture(scope="module")
def zero3(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    return train(2, *EIGHT, "zero=zero3", cwd=tmp_path_factory.mktemp("zero3"))


def has_libaio() -> bool:
    return subprocess.run([sys.executable, "-c", CHECK], env=environment(), capture_output=True).returncode == 0


def losses(ended: Ended) -> list[float]:
    return [row["loss"] for row in ended.rows]


def continued(n: int, *settings: str, cwd: Path) -> tuple[Ended, Ended]:
    """A whole run, and the same continued from its middle."""
    whole = train(n, *EIGHT, *settings, cwd=cwd)
    before = Ended(code=0, output=whole.output, folder=shutil.move(whole.folder, cwd / "whole"))
    shutil.copytree(before.folder, whole.folder)
    shutil.rmtree(whole.folder / "final")
    shutil.rmtree(whole.folder / "checkpoints" / "step-00000008")
    return before, train(n, *EIGHT, *settings, cwd=cwd)


@pytest.mark.parametrize("zero", ["zero2_offload", "zero3_offload", "zero3_nvme"])
def test_offloaded_state_gives_the_numbers_of_zero3_and_continues(zero: str, zero3: Ended, tmp_path: Path) -> None:
    place = []
    if zero == "zero3_nvme":
        if not has_libaio():
            pytest.skip("DeepSpeed's op for NVMe needs libaio: apt-get install libaio-dev")
        place = [f"zero.nvme_path={tmp_path / 'swap'}"]
    whole, resumed = continued(2, f"zero={zero}", *place, cwd=tmp_path)
    assert losses(whole) == pytest.approx(losses(zero3), abs=1e-5, rel=0)
    assert losses(resumed) == pytest.approx(losses(whole), abs=1e-6, rel=0)


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="needs the extra: pip install -e '.[eightbit]'")
@pytest.mark.parametrize(("n", "zero"), [(1, "off"), (2, "off"), (2, "zero1"), (2, "zero2"), (2, "zero3")])
def test_8_bit_moments_learn_like_32_and_continue(n: int, zero: str, zero3: Ended, tmp_path: Path) -> None:
    whole, resumed = continued(n, f"zero={zero}", "optim=adamw_8bit", cwd=tmp_path)
    assert losses(whole) == pytest.approx(losses(zero3), abs=1e-3, rel=0)
    assert losses(whole) != pytest.approx(losses(zero3), abs=1e-6, rel=0), "moments of 8 bits would show"
    assert losses(resumed) == pytest.approx(losses(whole), abs=1e-6, rel=0)


@pytest.mark.skipif(find_spec("bitsandbytes") is not None, reason="the package is installed")
def test_8_bit_without_its_package_says_what_to_install(tmp_path: Path) -> None:
    ended = launch(1, *EIGHT, "optim=adamw_8bit", cwd=tmp_path)
    assert ended.code == 1
    assert "pip install 'bitsandbytes" in ended.output
    assert "Traceback" not in ended.output
