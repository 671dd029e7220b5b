"""A loss or gradient that is not finite on one worker: the step is applied on none, the run goes on, back or ends."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dpo.records import read_metrics
from launch import SMALL, TWENTY, WORKERS, Ended, command, finish, start, train, worker

pytestmark = pytest.mark.run

MEASURED = ("pairs_per_second", "tokens_per_second", "peak_memory_gib")  # differ from run to run
COUNTERS = ("bad_steps", "skipped_steps", "rollbacks")

FAST = [("zero3", "bf16")]
SLOW = [(zero, p) for zero in ("off", "zero1", "zero2", "zero3") for p in ("fp32", "bf16") if (zero, p) not in FAST]
SLOW += [(zero, "fp32") for zero in ("zero2_offload", "zero3_offload")]


@pytest.mark.parametrize(
    ("zero", "precision"), [*FAST, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)]
)
def test_nothing_is_applied_on_any_worker(zero: str, precision: str, tmp_path: Path) -> None:
    """Weights, moments and counters bit for bit, and so the step after it."""
    code, output = worker(2, "unapplied.py", f"zero={zero}", f"precision={precision}", cwd=tmp_path)
    assert code == 0, output
    assert json.loads(output.split("FOUND ", 1)[1].splitlines()[0]) == {
        "put back": True,
        "nan applied": 0,
        "nan changed nothing": True,
        "inf applied": 0,
        "inf changed nothing": True,
        "loss applied": 0,
        "loss changed nothing": True,
        "then as without": True,
        "taken": True,
    }


@pytest.mark.slow
@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_fp16_supported(), reason="DeepSpeed refuses fp16 on this CPU")
@pytest.mark.parametrize("zero", ["off", "zero1", "zero2", "zero3"])
def test_the_loss_scale_adapts(zero: str, tmp_path: Path) -> None:
    """In DeepSpeed's hands as in ours. (applied, rescaled, scale) of every step."""
    code, output = worker(2, "unapplied.py", f"zero={zero}", "precision=fp16", cwd=tmp_path)
    assert code == 0, output
    found = json.loads(output.split("FOUND ", 1)[1].splitlines()[0])
    assert found["good"] == [[True, False, 64]]
    assert found["overflow"] == [[False, True, 2**40]]
    assert found["bad"] == [[False, True, 64], [False, True, 32]]
    assert found["least"] == [[False, False, 1], [False, False, 1]]
    assert found["changed nothing"]
    assert found["scales of growth"] in ([64, 64, 128, 128, 128], [64, 64, 64, 128, 128])  # DeepSpeed: a step later


def poisoned(n: int, *overrides: str, cwd: Path, **poison: str) -> Ended:
    code, output = finish(start(command(n, WORKERS / "poisoned.py", *overrides), cwd, **poison))
    name = next(text.removeprefix("name=") for text in overrides if text.startswith("name="))
    return Ended(code=code, output=output, folder=cwd / name)


def numbers(rows: list[dict[str, Any]], *without: str) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in (*MEASURED, *without)} for row in rows]


def tensors(run: Ended, step: int) -> dict[str, Any]:
    files = (run.folder / "checkpoints" / f"step-{step:08d}").glob("*.safetensors")
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def assert_stopped_and_continued(n: int, arguments: tuple[str, ...], undisturbed: Ended, cwd: Path) -> None:
    """Steps 6 to 8 are bad. Tried again without poison, the run is the one that nothing happened to."""
    ended = poisoned(n, *arguments, cwd=cwd, POISON_LOSS="5,6,7", POISON_RANK=str(n - 1))
    assert ended.code == 1
    assert n > 1 or "Traceback" not in ended.output  # torch's launcher ends with one of its own
    assert ended.status["state"] == "failed"
    assert "3 steps in a row, 6 to 8 (guard.max_bad_steps=3" in ended.status["why"]
    assert ended.checkpoints == ["step-00000005"]
    assert [(row["loss"], row["bad_steps"]) for row in ended.train[4:]] == [
        (undisturbed.train[4]["loss"], 0),
        ("NaN", 1),
        ("NaN", 2),
        ("NaN", 3),
    ]
    kept = read_metrics(ended.folder / "bad_steps.jsonl")
    assert {row["step"] for row in kept} == {6, 7, 8}
    assert {row["worker"] for row in kept} == {n - 1}
    assert all(row["loss"] == math.inf and math.isfinite(row["policy_rejected"]) for row in kept)
    assert f"{kept[0]['source']} (id {kept[0]['id']})" in ended.output
    again = train(n, *arguments, cwd=cwd)
    assert numbers(again.rows) == numbers(undisturbed.rows)


@pytest.mark.slow
def test_too_many_end_the_run_and_the_same_command_tries_them_again(one: Ended, tmp_path: Path) -> None:
    assert_stopped_and_continued(1, (*TWENTY, "zero=off", "name=bad"), one, tmp_path)


@pytest.mark.slow
def test_the_same_on_two_workers(two: Ended, tmp_path: Path) -> None:
    arguments = (*TWENTY, "zero=zero3", "optim.micro_batch_pairs=2", "name=bad")
    assert_stopped_and_continued(2, arguments, two, tmp_path)


@pytest.mark.slow
def test_a_record_among_bad_steps_is_made_anew(tmp_path: Path) -> None:
    """It comes after step 7, and the run goes back to step 5: what it added up is needed again."""
    arguments = (*TWENTY, "zero=off", "track.every=7")
    assert poisoned(1, *arguments, "name=bad", cwd=tmp_path, POISON_LOSS="5,6,7").code == 1
    again, undisturbed = (train(1, *arguments, f"name={name}", cwd=tmp_path) for name in ("bad", "undisturbed"))
    assert numbers(again.rows) == numbers(undisturbed.rows)


def test_left_out_rolled_back_and_stopped(tmp_path: Path) -> None:
    """Step 3 is bad; steps 7 to 9 take the run back to the weights of step 4; steps 13 to 15 end it. What it has learnt
    by step 12 is what a run that never saw steps 3 and 5 to 9 has: weights, moments, losses and learning rates."""
    settings = (*SMALL, "zero=off", "optim.max_steps=16", "checkpoint.every=4")
    run = poisoned(
        1,
        *settings,
        "guard.on_bad=rollback",
        "guard.max_rollbacks=1",
        "name=bad",
        cwd=tmp_path,
        POISON_LOSS="2",
        POISON_GRADIENT="6,7,8,12,13,14",
    )
    assert run.code == 1
    assert "Traceback" not in run.output
    assert "rollback 1 of 1 after 3 bad steps in a row, up to step 9" in run.output
    assert run.status["state"] == "failed"
    assert "3 steps in a row, 13 to 15 (guard.max_bad_steps=3, rollbacks so far: 1)" in run.status["why"]
    assert run.checkpoints == ["step-00000004", "step-00000012"]  # none among bad steps
    without = poisoned(1, *settings, "name=without", cwd=tmp_path, LEAVE_OUT="2,4,5,6,7,8")
    trained = [0, 1, 3, 9, 10, 11]
    rows, expected = ([found.train[i] for i in trained] for found in (run, without))
    assert numbers(rows, *COUNTERS) == numbers(expected, *COUNTERS)
    assert [run.train[11][name] for name in COUNTERS] == [4, 4, 1]
    weights = tensors(without, 12)
    assert all((tensor == weights[name]).all() for name, tensor in tensors(run, 12).items())
    kept = read_metrics(run.folder / "bad_steps.jsonl")
    of_gradients = [step for step in (7, 8, 9, 13, 14, 15) for _ in range(16)]
    assert [row["step"] for row in kept] == [3, *of_gradients]  # of step 3 the one pair whose loss is infinite
