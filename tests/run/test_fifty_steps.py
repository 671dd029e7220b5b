"""Every way to be faster or leaner gives the losses of the plainest one: two padded rows per pair, a frozen copy
computed in every step, one process. 50 steps through almost three epochs, in float32."""

from pathlib import Path

import pytest

from launch import SMALL, Ended, train

pytestmark = pytest.mark.run

FIFTY = (*SMALL, "optim.epochs=3", "optim.max_steps=50", "checkpoint.every=0", "track.every=1")
LOSS = 1e-4

FASTER = {
    "packed, cached": (1, ("reference=cached", "zero=off")),
    "selective checkpointing": (1, ("reference=cached", "zero=off", "model.gradient_checkpointing=selective")),
    "compiled": (1, ("reference=cached", "zero=off", "model.compile=true")),
    "short rows": (1, ("reference=cached", "zero=off", "optim.micro_batch_tokens=300")),
    "overlapping sums": (2, ("reference=cached", "zero=off", "optim.micro_batch_pairs=2")),
    "zero2": (2, ("reference=cached", "zero=zero2", "optim.micro_batch_pairs=3")),
    "zero3": (2, ("reference=cached", "zero=zero3")),
    "zero3 offload": (2, ("reference=cached", "zero=zero3_offload")),
    "shared rows": (2, ("reference=cached", "zero=zero3", "zero.sequence_parallel=2")),
}
QUICK = "packed, cached"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    settings = ("layout=padded", "reference=sharded", "zero=off", "name=plain")
    return train(1, *FIFTY, *settings, cwd=tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize(
    "name", [QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in FASTER if name != QUICK)]
)
def test_same_losses(name: str, plain: Ended, tmp_path: Path) -> None:
    workers, settings = FASTER[name]
    found = train(workers, *FIFTY, *settings, "name=faster", cwd=tmp_path)
    assert len(found.train) == len(plain.train) == 50
    assert plain.train[-1]["loss"] < 0.5  # it has learnt: the losses are not all alike
    assert [row["loss"] for row in found.train] == pytest.approx([row["loss"] for row in plain.train], abs=LOSS, rel=0)
