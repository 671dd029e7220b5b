"""debug=deterministic: the same command twice gives the same bits, in weights and in metrics.jsonl."""

from pathlib import Path
from typing import Any

import pytest

from launch import SMALL, Ended, train

pytestmark = pytest.mark.run

RUN = (*SMALL, "debug=deterministic", "optim.max_steps=6", "checkpoint.every=3")
LORA = ("adapter=lora", "adapter.dropout=0.1")
CLOCK = {"pairs_per_second", "tokens_per_second", "peak_memory_gib"}  # of the machine, not of the numbers


def numbers(ended: Ended) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key not in CLOCK} for row in ended.rows]


def tensors(ended: Ended) -> dict[str, bytes]:
    """Weights and moments as they lie on disk."""
    files = sorted(ended.folder.rglob("*.safetensors"))
    return {str(path.relative_to(ended.folder)): path.read_bytes() for path in files}


def assert_twice_the_same(n: int, *settings: str, cwd: Path) -> None:
    """Where the machine differs: in the order of sets, and in the threads that a user asks for."""
    first = train(n, *RUN, *settings, "name=first", cwd=cwd, PYTHONHASHSEED="1", OMP_NUM_THREADS="1")
    second = train(n, *RUN, *settings, "name=second", cwd=cwd, PYTHONHASHSEED="2", OMP_NUM_THREADS="2")
    assert len(first.train) == 6 and numbers(first) == numbers(second)
    assert any("final/" in name for name in tensors(first)) and any("step-" in name for name in tensors(first))
    assert tensors(first) == tensors(second)
    assert second.output.count("deterministic: ") == 1


def test_one_worker(tmp_path: Path) -> None:
    assert_twice_the_same(1, *LORA, cwd=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("adapter", [(), LORA], ids=["full", "lora"])
@pytest.mark.parametrize("zero", ["off", "zero2", "zero3"])
def test_two_workers(zero: str, adapter: tuple[str, ...], tmp_path: Path) -> None:
    assert_twice_the_same(2, *adapter, f"zero={zero}", "optim.micro_batch_pairs=3", cwd=tmp_path)
