"""A reference that follows the policy: equal numbers wherever it computes, and a resume between two moves."""

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from launch import SMALL, Ended, train

pytestmark = pytest.mark.run

# Moves before steps 5 and 9; checkpoints at a step before which the reference has moved, and between two moves.
STEPS = (*SMALL, "optim.max_steps=10", "checkpoint.every=2", "checkpoint.keep=9")
HARD = (*STEPS, "reference=moving", "reference.sync_every=4")
SOFT = (*HARD, "reference.sync_mix=0.3")
LORA = (*HARD, "adapter=lora")
LN2 = math.log(2)
MEASURED = ("pairs_per_second", "tokens_per_second", "peak_memory_gib")  # differ from run to run


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """One process, plain torch, full fine-tuning, the reference replaced every four steps."""
    return train(1, *HARD, "zero=off", "name=hard", cwd=tmp_path_factory.mktemp("hard"))


def rewound(ended: Ended, step: int, folder: Path) -> Path:
    """A copy of the run as it was after `step`. Returns the folder to launch it in."""
    run = folder / ended.folder.name
    shutil.copytree(ended.folder, run)
    shutil.rmtree(run / "final")
    for checkpoint in (run / "checkpoints").glob("step-*"):
        if checkpoint.name > f"step-{step:08d}":
            shutil.rmtree(checkpoint)
    return folder


def assert_continues(undisturbed: Ended, step: int, n: int, arguments: tuple[str, ...], folder: Path) -> None:
    """From `step` on, bit for bit."""
    again = train(n, *arguments, f"name={undisturbed.folder.name}", cwd=rewound(undisturbed, step, folder))
    assert f"step-{step:08d}" in again.output
    assert numbers(again.rows) == numbers(undisturbed.rows)
    last = f"step-{undisturbed.train[-1]['step']:08d}"
    assert weights(again.folder / "checkpoints" / last) == weights(undisturbed.folder / "checkpoints" / last)


def numbers(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in MEASURED} for row in rows]


def weights(checkpoint: Path) -> dict[str, list[float]]:
    found = {}
    for file in checkpoint.glob("*.safetensors"):
        with safe_open(file, framework="pt") as state:
            found |= {key: state.get_tensor(key).flatten().tolist() for key in state.keys()}  # noqa: SIM118
    return found


def assert_near(found: Ended, expected: Ended) -> None:
    assert [row["batch"] for row in found.train] == [row["batch"] for row in expected.train]
    for row, other in zip(found.rows, expected.rows, strict=True):
        assert row["loss"] == pytest.approx(other["loss"], abs=1e-5, rel=0), f"step {other['step']}"
        assert row["rewards/margins"] == pytest.approx(other["rewards/margins"], abs=1e-4), f"step {other['step']}"


def test_a_replaced_reference_starts_anew(hard: Ended) -> None:
    """Right after a move both are the same: ln 2 and no rewards, as before the first step; elsewhere not."""
    assert [row["reference_syncs"] for row in hard.train] == [0] * 4 + [1] * 4 + [2] * 2
    for row in hard.train:
        if row["step"] in (1, 5, 9):
            assert row["loss"] == pytest.approx(LN2, abs=1e-6)
            assert row["rewards/chosen"] == pytest.approx(0, abs=1e-6)
            assert row["rewards/rejected"] == pytest.approx(0, abs=1e-6)
        else:
            assert abs(row["loss"] - LN2) > 1e-4
    assert hard.held_out[-1]["rewards/margins"] != 0
    assert "moves every 4 steps (reference.sync_every), 2 times" in hard.output


def test_it_continues_between_two_moves(hard: Ended, tmp_path: Path) -> None:
    assert_continues(hard, 6, 1, (*HARD, "zero=off"), tmp_path)


@pytest.mark.slow
def test_it_continues_right_before_a_move(hard: Ended, tmp_path: Path) -> None:
    assert_continues(hard, 8, 1, (*HARD, "zero=off"), tmp_path)


def test_two_zero3_workers_give_the_same_numbers(hard: Ended, tmp_path: Path) -> None:
    """Shards move, and small weights that DeepSpeed keeps whole follow them."""
    assert_near(train(2, *HARD, "zero=zero3", "name=hard", cwd=tmp_path), hard)


# Weights that are gathered for every use; by default all of the tiny model's are small enough to stay whole.
GATHERED = ("zero=zero3", "zero.deepspeed.zero_optimization.stage3_param_persistence_threshold=0")


@pytest.fixture(scope="module", params=[SOFT, LORA], ids=["soft", "lora"])
def alone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[tuple[str, ...], Ended]:
    """Settings, and their run in one process with plain torch."""
    arguments = request.param
    return arguments, train(1, *arguments, "zero=off", "name=run", cwd=tmp_path_factory.mktemp("alone"))


@pytest.mark.slow
def test_one_worker_continues(alone: tuple[tuple[str, ...], Ended], tmp_path: Path) -> None:
    arguments, ended = alone
    assert_continues(ended, 6, 1, (*arguments, "zero=off"), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "zero", [("zero=off",), ("zero=zero1",), ("zero=zero2",), ("zero=zero3",), GATHERED], ids=lambda zero: zero[-1]
)
def test_two_workers_give_the_same_numbers_and_continue(
    alone: tuple[tuple[str, ...], Ended], zero: tuple[str, ...], tmp_path: Path
) -> None:
    arguments, expected = alone
    found = train(2, *arguments, *zero, "name=run", cwd=tmp_path)
    assert_near(found, expected)
    assert_continues(found, 6, 2, (*arguments, *zero), tmp_path / "again")


@pytest.mark.slow
def test_it_continues_in_another_stage(alone: tuple[tuple[str, ...], Ended], tmp_path: Path) -> None:
    """From plain torch to two ZeRO-3 workers and back."""
    arguments, expected = alone
    double = train(2, *arguments, "zero=zero3", "name=run", cwd=rewound(expected, 6, tmp_path / "there"))
    assert_near(double, expected)
    back = train(1, *arguments, "zero=off", "name=run", cwd=rewound(double, 8, tmp_path / "back"))
    assert_near(back, expected)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "zero"), [(1, "off"), (2, "zero2"), (2, "zero3")])
def test_half_precision_continues_bit_for_bit(n: int, zero: str, tmp_path: Path) -> None:
    """The float32 values beside the reference are in the checkpoint."""
    arguments = (*SOFT, "precision=bf16", f"zero={zero}")
    assert_continues(train(n, *arguments, "name=half", cwd=tmp_path), 6, n, arguments, tmp_path / "again")


@pytest.mark.slow
@pytest.mark.parametrize(("n", "zero"), [(1, "off"), (2, "zero3")])
@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_one_that_never_moves_is_the_frozen_one(n: int, zero: str, adapter: str, tmp_path: Path) -> None:
    arguments = (*STEPS, f"zero={zero}", f"adapter={adapter}")
    never = train(n, *arguments, "reference=moving", "name=never", cwd=tmp_path)
    assert "moves every 512 steps (reference.sync_every), 0 times" in never.output
    frozen = train(n, *arguments, "reference=sharded", "name=frozen", cwd=tmp_path)
    rows = [{k: v for k, v in row.items() if k != "reference_syncs"} for row in numbers(never.rows)]
    assert rows == numbers(frozen.rows)


@pytest.mark.slow
def test_only_the_adapter_that_learnt_is_exported(tmp_path: Path) -> None:
    ended = train(1, *LORA, "zero=off", "name=run", cwd=tmp_path)
    adapter = ended.folder / "final" / "adapter"
    assert not [path for path in adapter.iterdir() if path.is_dir()]
    with safe_open(adapter / "adapter_model.safetensors", framework="pt") as state:
        assert len(list(state.keys())) == len(weights(ended.folder / "checkpoints" / "step-00000010")) // 4
