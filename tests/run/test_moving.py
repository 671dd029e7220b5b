"""A reference that follows the policy gives equal numbers wherever it computes. That a run with one continues exactly
stands in test_exact_resume.py; here is what its matrix leaves out: soft moves, half precision, other stages."""

import math
from pathlib import Path
from typing import Any

import pytest
from resumed import STEPS, assert_same_state, leg, numbers, run_legs, tensors
from safetensors import safe_open

from launch import read_rows

pytestmark = [pytest.mark.run, pytest.mark.timeout(1600)]

# Moves before the steps 5 and 9.
HARD = ("reference=moving", "reference.sync_every=4", "track.every=1", "optim.lr=1e-4")
SOFT = (*HARD, "reference.sync_mix=0.3")
LORA = (*HARD, "adapter=lora")
KINDS = {"hard": HARD, "soft": SOFT, "lora": LORA}
# Weights that are gathered for every use; by default all of the tiny model's are small enough to stay whole.
GATHERED = ("zero=zero3", "zero.deepspeed.zero_optimization.stage3_param_persistence_threshold=0")
LN2 = math.log(2)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process, plain torch: a run of each kind."""
    cwd = tmp_path_factory.mktemp("alone")
    run_legs(1, [leg(kind, *settings, "zero=off") for kind, settings in KINDS.items()], cwd)
    return cwd


def rows(folder: Path, split: str = "train") -> list[dict[str, Any]]:
    return [row for row in read_rows(folder / "metrics.jsonl") if row["split"] == split]


def assert_near(found: Path, expected: Path) -> None:
    assert [row["step"] for row in rows(found)] == list(range(1, STEPS + 1))
    for split in ("train", "eval"):
        for row, other in zip(rows(found, split), rows(expected, split), strict=True):
            assert row["loss"] == pytest.approx(other["loss"], abs=1e-5, rel=0), f"{found.name}, step {other['step']}"
            assert row["rewards/margins"] == pytest.approx(other["rewards/margins"], abs=1e-4, rel=0)


def test_a_replaced_reference_starts_anew(alone: Path) -> None:
    """In the step after a move both are the same, as in the first: ln 2 and no rewards. What is measured on held-out
    pairs before that step is still against the reference that was learnt from."""
    for kind in ("hard", "lora"):
        assert [row["reference_syncs"] for row in rows(alone / kind)] == [0] * 4 + [1] * 4 + [2] * 2
        for row in rows(alone / kind):
            if row["step"] in (1, 5, 9):
                assert row["loss"] == pytest.approx(LN2, abs=1e-6)
                assert row["rewards/chosen"] == pytest.approx(0, abs=1e-6)
                assert row["rewards/rejected"] == pytest.approx(0, abs=1e-6)
            else:
                assert row["rewards/margins"] != pytest.approx(0, abs=1e-6)
    soft = {row["step"]: row["rewards/margins"] for row in rows(alone / "soft")}
    assert soft[5] != pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    "stages",
    [
        pytest.param({"zero3": "hard", "zero2": "soft"}, id="default"),
        pytest.param(
            {"zero1": "lora", "zero2": "lora", "zero3": "lora", "off": "lora"}, id="lora", marks=pytest.mark.slow
        ),
        pytest.param(dict.fromkeys(("zero1", "zero3", "off"), "soft"), id="soft", marks=pytest.mark.slow),
    ],
)
def test_two_workers_give_the_same_numbers(stages: dict[str, str], alone: Path, tmp_path: Path) -> None:
    """Shards move, and small weights that DeepSpeed keeps whole follow them."""
    legs = [leg(zero, *KINDS[kind], f"zero={zero}") for zero, kind in stages.items()]
    run_legs(2, legs, tmp_path)
    for zero, kind in stages.items():
        assert_near(tmp_path / zero, alone / kind)


@pytest.mark.slow
def test_weights_that_are_gathered_for_every_use(alone: Path, tmp_path: Path) -> None:
    run_legs(2, [leg(kind, *settings, *GATHERED) for kind, settings in KINDS.items()], tmp_path)
    for kind in KINDS:
        assert_near(tmp_path / kind, alone / kind)


@pytest.mark.slow
def test_it_continues_in_another_stage(alone: Path, tmp_path: Path) -> None:
    """From plain torch to two ZeRO-3 workers between two moves, and back right before one."""
    for n, zero, stop in ((1, "off", 6), (2, "zero3", 8), (1, "off", None)):
        legs = [leg(kind, *settings, f"zero={zero}", stop_after=stop) for kind, settings in KINDS.items()]
        run_legs(n, legs, tmp_path)
    for kind in KINDS:
        assert_near(tmp_path / kind, alone / kind)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "stages"), [(1, ["off"]), (2, ["off", "zero2", "zero3"])])
def test_half_precision_continues_bit_for_bit(n: int, stages: list[str], tmp_path: Path) -> None:
    """The float32 values beside the reference are in the checkpoint."""
    settings = (*SOFT, "precision=bf16")
    names = {f"{zero}-{stop}": (zero, stop) for zero in stages for stop in (None, 6, 8)}
    legs = [
        leg(name, *settings, f"zero={zero}", stop_after=each)
        for name, (zero, stop) in names.items()
        for each in ([stop, None] if stop else [None])
    ]
    run_legs(n, legs, tmp_path)
    last = {name: tensors(tmp_path / name / "checkpoints" / f"step-{STEPS:08d}") for name in names}
    for name, (zero, _) in names.items():
        assert numbers(tmp_path / name / "metrics.jsonl") == numbers(tmp_path / f"{zero}-None" / "metrics.jsonl")
        assert_same_state(last[f"{zero}-None"], last[name], name)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "zero"), [(1, "off"), (2, "zero3")])
def test_one_that_never_moves_is_the_frozen_one(n: int, zero: str, tmp_path: Path) -> None:
    never = ("reference=moving", f"reference.sync_every={STEPS}")
    pairs = [
        (adapter, f"{adapter}-{name}", kind)
        for adapter in ("none", "lora")
        for name, kind in (("never", never), ("frozen", ("reference=sharded",)))
    ]
    legs = [leg(name, *kind, f"adapter={adapter}", f"zero={zero}") for adapter, name, kind in pairs]
    assert "0 times in the 10 steps" in run_legs(n, legs, tmp_path)
    for adapter in ("none", "lora"):
        moving = numbers(tmp_path / f"{adapter}-never" / "metrics.jsonl")
        assert all(row.pop("reference_syncs", 0) == 0 for row in moving)
        assert moving == numbers(tmp_path / f"{adapter}-frozen" / "metrics.jsonl")


def test_only_the_adapter_that_learnt_is_exported(alone: Path) -> None:
    adapter = alone / "lora" / "final" / "adapter"
    assert not [path for path in adapter.iterdir() if path.is_dir()]
    learnt = [name for name in tensors(alone / "lora" / "checkpoints" / f"step-{STEPS:08d}") if "weight/" in name]
    with safe_open(adapter / "adapter_model.safetensors", framework="pt") as state:
        assert len(list(state.keys())) == len(learnt)
