"""The frozen model that the policy is held against, and the check that finds a wrong one before any training."""

import math
from pathlib import Path

import pytest

from launch import SMALL, Ended, launch, train, worker

pytestmark = pytest.mark.run

STEPS = (*SMALL, "optim.max_steps=3", "checkpoint.every=0", "name=run")


def test_a_reference_of_its_own(one: Ended, tmp_path: Path) -> None:
    """`reference.path` names another model: the first loss is not ln 2, and the self-check does not ask for it."""
    ended = train(1, *STEPS, f"reference.path={one.folder / 'final'}", cwd=tmp_path)
    assert abs(ended.train[0]["loss"] - math.log(2)) > 0.01
    assert "reference=cached: the model that reference.path names" in ended.output
    assert "self-check: first loss" in ended.output
    assert "expected" not in ended.output.split("self-check:")[1].splitlines()[0]
    # The one that was trained prefers the chosen answers more than this beginner does.
    assert ended.held_out[0]["rewards/margins"] < 0


def test_the_self_check_finds_a_wrong_reference(tmp_path: Path) -> None:
    code, output = worker(1, "wrong_reference.py", *STEPS, "reference=sharded", cwd=tmp_path)
    assert code == 1
    assert "self-check: the first loss is" in output and "must be 0.6931472" in output
    assert "Traceback" not in output
    ended = Ended(code=code, output=output, folder=tmp_path / "run")
    assert ended.status["state"] == "failed" and "self-check" in ended.status["why"]
    assert ended.checkpoints == []


@pytest.mark.slow
def test_the_self_check_finds_kept_values_that_are_wrong(tmp_path: Path) -> None:
    code, output = worker(1, "wrong_reference.py", *STEPS, cwd=tmp_path)
    assert code == 1
    assert "kept reference log-probabilities differ by" in output and "dpo cache" in output
    assert "Traceback" not in output


def test_the_self_check_finds_a_wrong_layout(tmp_path: Path) -> None:
    """Policy and reference agree here, both wrong: only the model's own forward shows it."""
    code, output = worker(1, "wrong_attention.py", *STEPS, cwd=tmp_path)
    assert code == 1
    assert "differ by" in output and "layout=padded" in output
    assert "Traceback" not in output


@pytest.mark.slow
def test_without_the_check_it_trains_all_the_same(tmp_path: Path) -> None:
    settings = (*STEPS, "reference=sharded", "guard.self_check=false")
    code, output = worker(1, "wrong_reference.py", *settings, cwd=tmp_path)
    assert code == 0, output


@pytest.mark.slow
def test_a_sharded_reference_of_its_own_on_two_workers(one: Ended, tmp_path: Path) -> None:
    path = f"reference.path={one.folder / 'final'}"
    single = train(1, *STEPS, path, "zero=off", cwd=tmp_path)
    (tmp_path / "run").rename(tmp_path / "single")
    double = train(2, *STEPS, path, "zero=zero3", cwd=tmp_path)
    assert [row["loss"] for row in double.train] == pytest.approx(
        [row["loss"] for row in Ended(code=0, output="", folder=tmp_path / "single").train], abs=1e-5, rel=0
    )
    assert single.code == 0


@pytest.mark.slow
def test_a_resumed_policy_is_not_its_own_reference(one: Ended, tmp_path: Path) -> None:
    """After a resume the margins go on from where they were; against itself they would begin at zero again."""
    first = train(1, *STEPS, cwd=tmp_path)
    more = [text.replace("optim.max_steps=3", "optim.max_steps=6") for text in STEPS]
    second = launch(1, *more, cwd=tmp_path)
    assert second.code == 0, second.output
    assert second.train[3]["rewards/margins"] > 0.5 * first.train[2]["rewards/margins"] > 0
