"""Runs of a few steps that stop and continue, and what two of them are compared by."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from dpo.demo.pairs import demo_pairs
from launch import read_rows, worker

MEASURED = ("pairs_per_second", "tokens_per_second", "peak_memory_gib")  # differ from run to run
LIMIT_SECONDS = 1500
STEPS = 10  # two epochs of 5, the last step of each with fewer pairs
TEN = (
    "output_dir=.",
    "data.path=pairs.jsonl",
    "data.eval_path=held_out.jsonl",
    "optim.epochs=2",
    "optim.global_batch_size=8",
    "optim.micro_batch_pairs=3",
    "optim.lr=1e-3",
    "loss.beta=0.3",
    "eval.every=3",
    "eval.samples=1",
    "eval.max_new_tokens=4",
    "track.every=4",
    "track.wandb=off",
    "track.progress=false",
    "checkpoint.every=0",
)


def leg(name: str, *settings: str, stop_after: int | None = None, again: str | None = None) -> dict[str, Any]:
    """One entry for workers/legs.py."""
    return {"name": name, "settings": [*TEN, *settings], "stop_after": stop_after, "again": again}


def run_legs(workers: int, legs: list[dict[str, Any]], cwd: Path) -> str:
    """All of them in one launch: starting takes longer than training. Returns the output."""
    train, held_out = demo_pairs(38)
    for file, pairs in (("pairs.jsonl", train), ("held_out.jsonl", held_out[:4])):
        rows = [{"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in pairs]
        (cwd / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    answers = [(p.prompt, p.rejected if i % 3 else p.chosen, i % 3 == 0) for i, p in enumerate(train[:20])]
    rows = [{"messages": [*prompt, *answer], "label": label} for prompt, answer, label in answers]
    (cwd / "single.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (cwd / "legs.json").write_text(json.dumps(legs))
    code, output = worker(workers, "legs.py", "legs.json", cwd=cwd, limit_seconds=LIMIT_SECONDS)
    assert code == 0, output
    return output


def numbers(metrics: Path) -> list[dict[str, Any]]:
    return without_measured(read_rows(metrics))


def without_measured(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in MEASURED} for row in rows]


def state(folder: Path) -> dict[str, torch.Tensor]:
    """Weights and moments of a run's last checkpoint."""
    return tensors(folder / "checkpoints" / f"step-{STEPS:08d}")


def tensors(checkpoint: Path) -> dict[str, torch.Tensor]:
    """All of them by name, whichever worker wrote them."""
    return {name: tensor for file in checkpoint.glob("*.safetensors") for name, tensor in load_file(file).items()}


def assert_same_state(expected: dict[str, torch.Tensor], found: dict[str, torch.Tensor], where: str) -> None:
    assert found.keys() == expected.keys(), where
    assert {name.split("/")[0] for name in found} >= {"weight", "exp_avg", "exp_avg_sq"}
    wrong = [name for name in expected if not torch.equal(expected[name], found[name])]
    assert wrong == [], where
