"""Storage that fails under a run, kills inside a save and bits that flip: the result is that of the undisturbed run."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from launch import SMALL, Ended, train, worker

pytestmark = pytest.mark.run

EVERY_FOUR = (*SMALL, "optim.epochs=2", "checkpoint.every=4")
STEPS = (*EVERY_FOUR, "optim.max_steps=20")  # as the runs `one` and `two`
MEASURED = ("pairs_per_second", "tokens_per_second", "peak_memory_gib")
SIZE = "60m"  # of the small disk: three checkpoints of 7 MB, the exported model, and room


def files(run: Ended) -> dict[str, Any]:
    """Checksums of the last checkpoint's weights and moments."""
    return json.loads((run.folder / "checkpoints" / run.checkpoints[-1] / "manifest.json").read_text())["files"]


def assert_as_undisturbed(found: Ended, undisturbed: Ended) -> None:
    """Bit for bit, every step once."""
    assert found.code == 0, found.output
    assert found.status["state"] == "done"
    rows, others = (
        [{k: v for k, v in row.items() if k not in MEASURED} for row in run.rows] for run in (found, undisturbed)
    )
    assert rows == others
    assert files(found) == files(undisturbed)


@contextmanager
def mounted(kind: str, folder: Path) -> Iterator[Path]:
    """A small disk; for `gone` a folder that can be taken away under the run and be given back."""
    mount, real = folder / "disk", folder / "disk.real"
    mount.mkdir()
    real.mkdir()
    command = ["--bind", str(real)] if kind == "gone" else ["-t", "tmpfs", "-o", f"size={SIZE}", "none"]
    if os.geteuid() or subprocess.run(["mount", *command, str(mount)], capture_output=True).returncode:
        pytest.skip("mounting needs root")
    try:
        yield mount
    finally:
        subprocess.run(["umount", "--lazy", str(mount)], check=False, capture_output=True)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("full", r"No space left on device \(\d\.\d MB free in .*\): make room there"),
        pytest.param("read_only", "Read-only file system in .*: make it writable", marks=pytest.mark.slow),
        pytest.param("gone", "No such file or directory in .*: is the storage still mounted", marks=pytest.mark.slow),
    ],
)
def test_storage_that_fails_for_a_while(kind: str, said: str, one: Ended, tmp_path: Path) -> None:
    """The run trains on with the checkpoint of step 4 untouched, loses no record, and saves again."""
    with mounted(kind, tmp_path) as mount:
        settings = (*STEPS, "zero=off", f"output_dir={mount}", "name=run")
        code, output = worker(1, "failing_storage.py", kind, str(mount), *settings, cwd=tmp_path)
        run = Ended(code=code, output=output, folder=mount / "run")
        assert code == 0, output
        assert 'DURING ["step-00000004"]' in output
        for step in (8, 12):
            assert re.search(rf"checkpoint step {step} could not be written: worker 0: {said}", output), output
        assert "records are written again" in output and "none is missing" in output
        assert run.checkpoints == ["step-00000016", "step-00000020"]
        assert sorted(path.name for path in (run.folder / "checkpoints").iterdir()) == run.checkpoints
        assert_as_undisturbed(run, one)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["full", "gone"])
def test_storage_that_fails_under_two_workers(kind: str, two: Ended, tmp_path: Path) -> None:
    with mounted(kind, tmp_path) as mount:
        settings = (*STEPS, "zero=zero3", "optim.micro_batch_pairs=2", f"output_dir={mount}", "name=run")
        code, output = worker(2, "failing_storage.py", kind, str(mount), *settings, cwd=tmp_path)
        assert 'DURING ["step-00000004"]' in output, output
        assert_as_undisturbed(Ended(code=code, output=output, folder=mount / "run"), two)


@pytest.mark.slow
def test_a_disk_that_stays_full_is_told_by_the_exit_code(tmp_path: Path) -> None:
    """What is trained would be lost: the end is a failure with a message, not a traceback."""
    with mounted("full", tmp_path) as mount:
        settings = (*EVERY_FOUR, "optim.max_steps=10", "zero=off", f"output_dir={mount}", "name=run")
        code, output = worker(1, "failing_storage.py", "full", str(mount), *settings, cwd=tmp_path)
        assert code == 1
        assert "the trained model could not be written" in output and "make room there" in output
        assert "Traceback" not in output
        (mount / "filler").unlink()
        again = train(1, *settings, cwd=tmp_path)
        assert "step-00000004" in again.output and "checkpoint step 10" in again.output


@pytest.mark.slow
def test_a_request_to_stop_on_a_full_disk(one: Ended, tmp_path: Path) -> None:
    """The state of that step cannot be kept: that is a failure. Nothing older is lost, and the same command goes on."""
    with mounted("full", tmp_path) as mount:
        settings = (*STEPS, "zero=off", f"output_dir={mount}", "name=run")
        code, output = worker(1, "failing_storage.py", "stopped", str(mount), *settings, cwd=tmp_path)
        assert code == 1
        assert "stopped after step 9, but the checkpoint of this step could not be written" in output
        assert "Traceback" not in output
        (mount / "filler").unlink()
        again = train(1, *settings, cwd=tmp_path)
        assert "step-00000004" in again.output
        assert_as_undisturbed(Ended(code=0, output=again.output, folder=mount / "run"), one)


def test_killed_inside_a_save_and_then_a_bit_flips(one: Ended, tmp_path: Path) -> None:
    """Checkpoints 4 and 8 stand, 12 is half written. A bit of 8 flips: the run continues from 4, itself written in the
    background, and ends as the run that wrote in the foreground and was never disturbed."""
    settings = (*STEPS, "zero=off", "name=killed")
    code, output = worker(1, "killed_in_save.py", "12", *settings, cwd=tmp_path)
    assert code == -signal.SIGKILL, output
    folder = tmp_path / "killed" / "checkpoints"
    names = [".writing-step-00000012", "step-00000004", "step-00000008"]
    assert sorted(path.name for path in folder.iterdir()) == names
    (file,) = (folder / "step-00000008").glob("*.safetensors")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    again = train(1, *settings, cwd=tmp_path)
    assert f"{file.name} is not what was written" in again.output
    assert "resume: continuing from killed/checkpoints/step-00000004" in again.output
    assert_as_undisturbed(Ended(code=0, output=again.output, folder=again.folder), one)
    names = ["step-00000008.damaged", "step-00000016", "step-00000020"]
    assert sorted(path.name for path in folder.iterdir()) == names
