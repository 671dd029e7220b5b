"""The host runs ahead of the device: nothing of ours waits for it within a step but the gradient norm, which decides
whether the step is applied, and the record of a logged step. What the workers agree on before each micro-batch goes
over the CPU."""

import json
from pathlib import Path
from typing import Any

import pytest

from launch import SMALL, worker

pytestmark = pytest.mark.run

STEPS, EVERY = 9, 4  # the first step is not counted; records after steps 4 and 8


def counted(n: int, *overrides: str, cwd: Path) -> dict[str, Any]:
    settings = (*SMALL, f"optim.max_steps={STEPS}", f"track.every={EVERY}", "optim.micro_batch_pairs=2", "name=counted")
    code, output = worker(n, "syncs.py", *settings, *overrides, cwd=cwd)
    assert code == 0, output
    found = json.loads(output.split("FOUND ", 1)[1].splitlines()[0])
    assert found["micro_batches"] == (STEPS - 1) * 16 // 2 // n
    return found


def assert_only_records(found: dict[str, Any]) -> None:
    """A record reads a handful of values; two were written. That they are seen shows that the count works."""
    assert set(found["ours"]) == {"trainer.py:record", "metrics.py:record", "metrics.py:counts"}
    assert sum(found["ours"].values()) <= 2 * 5


def test_one_worker(tmp_path: Path) -> None:
    found = counted(1, "zero=off", cwd=tmp_path)
    assert found["ours"].pop("plain.py:step") == STEPS - 1
    assert_only_records(found)
    assert found["collectives"] == {}


@pytest.mark.parametrize("zero", ["zero3", pytest.param("off", marks=pytest.mark.slow)])
def test_two_workers(zero: str, tmp_path: Path) -> None:
    found = counted(2, f"zero={zero}", cwd=tmp_path)
    # Read from host memory: the flag never was on a device.
    assert found["ours"].pop("world.py:agree") == found["micro_batches"], "may the workers stop here?"
    assert found["collectives"].pop("agree, control group") == found["micro_batches"]
    assert found["ours"].pop("plain.py:step" if zero == "off" else "zero.py:step") == STEPS - 1
    assert_only_records(found)
    assert found["collectives"].pop("gather") == 2, "one collective per record"
    # One bucket holds the tiny model: its gradients are summed once per step. Those of ZeRO are DeepSpeed's.
    assert found["collectives"] == ({} if zero == "zero3" else {"start_sum": STEPS - 1})
