"""bf16 computes in half precision and learns in float32, in every ZeRO mode."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dpo.model.tiny import build_tiny_model
from launch import Ended, train, worker

pytestmark = pytest.mark.run

# Steps of 2e-6 on weights of about 0.05: bf16, with 8 bits, would round every one of them away.
BF16 = (
    "output_dir=.",
    "precision=bf16",
    "data.demo=64",
    "optim.lr=2e-6",
    "optim.warmup_ratio=0",
    "optim.global_batch_size=16",
    "optim.max_steps=4",
    "eval.samples=0",
    "track.wandb=off",
    "track.progress=false",
    "name=bf16",
)
ZERO = [(1, "off"), (2, "zero3"), *(pytest.param(2, z, marks=pytest.mark.slow) for z in ("off", "zero1", "zero2"))]


def masters(run: Ended) -> dict[str, torch.Tensor]:
    (checkpoint,) = (run.folder / name for name in [f"checkpoints/{run.checkpoints[-1]}"])
    tensors: dict[str, torch.Tensor] = {}
    for file in sorted(checkpoint.glob("*.safetensors")):
        tensors |= load_file(file)
    return {name.removeprefix("weight/"): t for name, t in tensors.items() if name.startswith("weight/")}


@pytest.mark.parametrize(("n", "zero"), ZERO)
def test_masters_are_float32_and_the_export_is_their_rounding(n: int, zero: str, tmp_path: Path) -> None:
    run = train(n, *BF16, f"zero={zero}", cwd=tmp_path)
    assert run.train[0]["loss"] == pytest.approx(0.693147, abs=1e-5)
    exported = load_file(run.folder / "final" / "model.safetensors")
    for name, master in masters(run).items():
        assert master.dtype == torch.float32
        assert exported[name].dtype == torch.bfloat16
        torch.testing.assert_close(exported[name], master.bfloat16(), rtol=0, atol=0)
    finer = [name for name, master in masters(run).items() if (master != master.bfloat16().float()).any()]
    assert len(finer) > 10, "masters that bf16 can hold exactly have not learned in float32"


@pytest.mark.parametrize(("n", "stage"), [(1, 0), (2, 3)])
def test_rotary_frequencies_stay_float32(n: int, stage: int, tmp_path: Path) -> None:
    """In bf16 they would be off by 0.4 %: whole radians at position 1000, which no self-check could see."""
    build_tiny_model(0).save_pretrained(tmp_path / "model")
    code, output = worker(n, "buffers.py", str(tmp_path / "model"), str(stage), cwd=tmp_path)
    assert code == 0, output
    found = json.loads(output.split("FOUND", 1)[1].splitlines()[0])
    assert found["buffers"] > 0
    assert found["wrong"] == []
    assert found["types"] == ["torch.bfloat16"]
