"""Stop at any step and continue: the run that was never disturbed, number for number."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from launch import ROOT, TWENTY, Ended, command, finish, launch, start, train, train_and_stop, wait_for_step

pytestmark = pytest.mark.run

MEASURED = ("pairs_per_second", "tokens_per_second", "peak_memory_gib")  # differ from run to run
ZERO3 = ("zero=zero3", "optim.micro_batch_pairs=2")


def numbers(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in MEASURED} for row in rows]


def assert_stopped(ended: Ended) -> int:
    """Ended well, with a checkpoint of the step it stopped after. Returns the step."""
    assert ended.code == 0, ended.output
    assert ended.status["state"] == "stopped", ended.output
    step = ended.status["step"]
    assert 3 <= step < 20
    assert ended.checkpoints == [f"step-{step:08d}"]
    assert not (ended.folder / "final").exists()
    assert ended.train[-1]["step"] == step
    return step


def assert_as_undisturbed(found: Ended, undisturbed: Ended) -> None:
    """Bit for bit, every step once."""
    assert found.status["state"] == "done", found.output
    assert [row["step"] for row in found.train] == list(range(1, 21))
    assert numbers(found.rows) == numbers(undisturbed.rows)


def test_one_process_stopped_by_a_signal(one: Ended, tmp_path: Path) -> None:
    arguments = (*TWENTY, "zero=off", "name=stopped")
    stopped = train_and_stop(1, *arguments, cwd=tmp_path, after_step=3, how="signal")
    assert_stopped(stopped)
    assert "SIGTERM" in stopped.status["why"]
    assert_as_undisturbed(train(1, *arguments, cwd=tmp_path), one)


@pytest.fixture(scope="module")
def stopped_two(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """Two ZeRO-3 workers, stopped by the file."""
    ended = train_and_stop(
        2, *TWENTY, *ZERO3, "name=stopped", cwd=tmp_path_factory.mktemp("stop"), after_step=3, how="file"
    )
    assert_stopped(ended)
    assert "STOP" in ended.status["why"]
    return ended


def copied(stopped: Ended, folder: Path) -> Path:
    shutil.copytree(stopped.folder, folder / "stopped")
    return folder


def test_two_zero3_workers_stopped_by_the_file(stopped_two: Ended, two: Ended, tmp_path: Path) -> None:
    """The same command continues, although nobody took the file away."""
    cwd = copied(stopped_two, tmp_path)
    assert_as_undisturbed(train(2, *TWENTY, *ZERO3, "name=stopped", cwd=cwd), two)


def assert_near(found: Ended, undisturbed: Ended) -> None:
    assert [row["batch"] for row in found.train] == [row["batch"] for row in undisturbed.train]
    for row, other in zip(found.rows, undisturbed.rows, strict=True):
        assert row["loss"] == pytest.approx(other["loss"], abs=1e-5, rel=0), f"step {other['step']}"


def test_continued_on_another_number_of_workers(stopped_two: Ended, one: Ended, tmp_path: Path) -> None:
    """Two ZeRO-3 workers began, one process without DeepSpeed ends."""
    cwd = copied(stopped_two, tmp_path)
    assert_near(train(1, *TWENTY, "zero=off", "name=stopped", cwd=cwd), one)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "then"),
    [
        ((1, "off"), (2, "zero3")),
        ((2, "zero2"), (2, "zero3")),
        ((2, "zero3"), (2, "zero2")),
        ((2, "zero1"), (1, "off")),
        ((1, "zero3"), (2, "zero1")),
    ],
)
@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_continued_in_another_zero_stage(
    first: tuple[int, str], then: tuple[int, str], adapter: str, one: Ended, tmp_path: Path
) -> None:
    arguments = (*TWENTY, f"adapter={adapter}", "name=moved")
    expected = one
    if adapter == "lora":
        expected = train(1, *TWENTY, "adapter=lora", "zero=off", "name=expected", cwd=tmp_path)
    began = train_and_stop(first[0], *arguments, f"zero={first[1]}", cwd=tmp_path, after_step=3, how="file")
    assert_stopped(began)
    assert_near(train(then[0], *arguments, f"zero={then[1]}", cwd=tmp_path), expected)


@pytest.mark.slow
@pytest.mark.parametrize("zero", ["off", "zero1", "zero2"])
def test_two_workers_in_every_stage(zero: str, tmp_path: Path) -> None:
    """Bit-identical on the same workers."""
    arguments = (*TWENTY, f"zero={zero}")
    undisturbed = train(2, *arguments, "name=undisturbed", cwd=tmp_path)
    assert_stopped(train_and_stop(2, *arguments, "name=stopped", cwd=tmp_path, after_step=3, how="file"))
    assert_as_undisturbed(train(2, *arguments, "name=stopped", cwd=tmp_path), undisturbed)


@pytest.mark.slow
def test_a_signal_to_one_of_two_workers_stops_both(tmp_path: Path) -> None:
    """The flag is agreed: nobody hangs in a collective, everybody exits 0."""
    arguments = (*TWENTY, *ZERO3, "name=stopped")
    process = start(command(2, ROOT / "train.py", *arguments), tmp_path)
    folder = tmp_path / "stopped"
    wait_for_step(process, folder / "metrics.jsonl", 3)
    workers = [pid for pid in children(process.pid) if "train.py" in cmdline(pid)]
    assert len(workers) == 2
    os.kill(workers[1], signal.SIGUSR1)
    code, output = finish(process)
    assert_stopped(Ended(code=code, output=output, folder=folder))


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def cmdline(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def test_a_killed_run_continues_from_its_newest_checkpoint(one: Ended, tmp_path: Path) -> None:
    """Killed without warning after step 9, with checkpoints at 4 and 8: no step is logged twice."""
    arguments = (*TWENTY, "zero=off", "checkpoint.every=4", "name=killed")
    process = start(command(1, ROOT / "train.py", *arguments), tmp_path)
    wait_for_step(process, tmp_path / "killed" / "metrics.jsonl", 9)
    process.kill()
    code, output = finish(process)
    killed = Ended(code=code, output=output, folder=tmp_path / "killed")
    assert killed.code == -signal.SIGKILL
    assert killed.checkpoints, output
    assert_as_undisturbed(train(1, *arguments, cwd=tmp_path), one)


def test_the_same_command_of_a_finished_run_trains_nothing_anew(one: Ended, tmp_path: Path) -> None:
    """It says so and shows the result again; other settings under the same name are refused, naming them."""
    shutil.copytree(one.folder, tmp_path / "one")
    arguments = (*TWENTY, "zero=off", "name=one")
    again = train(1, *arguments, cwd=tmp_path)
    assert "done already" in again.output
    assert numbers(again.rows) == numbers(one.rows)
    other = launch(1, *arguments, "loss.label_smoothing=0.1", cwd=tmp_path)
    assert other.code == 1
    assert "loss.label_smoothing: 0.0 in the checkpoint, 0.1 now" in other.output
    assert "Traceback" not in other.output
    assert numbers(other.rows) == numbers(one.rows)
