"""Stop at any step and continue: the run that was never disturbed, number for number."""

import importlib.util
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from resumed import MEASURED, without_measured

from dpo.track.tracker import histograms, metric_names
from dpo.track.wandb_file import messages, values
from launch import ROOT, TWENTY, Ended, command, finish, launch, start, train, train_and_stop, wait_for_step

pytestmark = pytest.mark.run

ZERO3 = ("zero=zero3", "optim.micro_batch_pairs=2")


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
    assert without_measured(found.rows) == without_measured(undisturbed.rows)


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


def test_a_run_killed_twice_continues_from_its_newest_checkpoint(one: Ended, tmp_path: Path) -> None:
    """Killed without warning after steps 9 and 15, with a checkpoint every 4: no step is logged twice and none is
    missing, neither in metrics.jsonl nor in what W&B and TensorBoard show."""
    with_tensorboard = importlib.util.find_spec("tensorboard") is not None
    arguments = (*TWENTY, "zero=off", "checkpoint.every=4", "track.wandb=offline", "name=killed")
    arguments += (f"track.tensorboard={str(with_tensorboard).lower()}",)
    for step in (9, 15):
        process = start(command(1, ROOT / "train.py", *arguments), tmp_path)
        wait_for_step(process, tmp_path / "killed" / "metrics.jsonl", step)
        process.kill()
        code, output = finish(process)
        killed = Ended(code=code, output=output, folder=tmp_path / "killed")
        assert killed.code == -signal.SIGKILL
        assert killed.checkpoints, output
    ended = train(1, *arguments, cwd=tmp_path)
    assert_as_undisturbed(ended, one)
    assert_tracked_once(ended)
    if with_tensorboard:
        assert_shown_once(ended)


def assert_shown_once(ended: Ended) -> None:
    """As in W&B's files, in one of TensorBoard's."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(ended.folder / "tensorboard"), size_guidance={"scalars": 0})
    read.Reload()
    found = [(entry.step, name) for name in read.Tags()["scalars"] for entry in read.Scalars(name)]
    expected = [(row["step"], name) for row in ended.rows for name in metric_names(row)]
    assert sorted(found) == sorted(expected)


def assert_tracked_once(ended: Ended) -> None:
    """Every number of metrics.jsonl stands once in the offline files, which belong to one run."""
    files = sorted(ended.folder.glob("wandb/offline-run-*/run-*.wandb"))
    assert {file.stem for file in files} == {f"run-{ended.status['wandb_id']}"}
    rows = [
        values(message.history.item)
        for file in files
        for message in messages(file)
        if message.WhichOneof("record_type") == "history"
    ]
    found = [(row["_step"], name, told(row[name])) for row in rows for name in row if not name.startswith("_")]
    shown = [(row["step"], metric_names(row) | histograms(row)) for row in ended.rows]
    expected = [(step, name, told(value)) for step, row in shown for name, value in row.items()]
    same = [(step, name) for step, name, _ in found if name not in MEASURED]
    assert sorted(same) == sorted((step, name) for step, name, _ in expected if name not in MEASURED)
    assert {entry for entry in found if entry[1] not in MEASURED} == {e for e in expected if e[1] not in MEASURED}


def told(value: Any) -> Any:
    """A histogram is told with its edges: that it is there has to do."""
    return "histogram" if isinstance(value, dict) else value


def test_the_same_command_of_a_finished_run_trains_nothing_anew(one: Ended, tmp_path: Path) -> None:
    """It says so, shows the result again and keeps what it was trained with, although fewer steps are asked for; other
    settings under the same name are refused, naming them."""
    shutil.copytree(one.folder, tmp_path / "one")
    arguments = (*TWENTY, "zero=off", "name=one")
    again = train(1, *arguments, "optim.max_steps=15", cwd=tmp_path)
    assert "optim.max_steps: 20 in the checkpoint, 15 now: goes on" in again.output
    assert "done already" in again.output
    assert again.status["step"] == 20
    assert (again.folder / "config.yaml").read_text() == (one.folder / "config.yaml").read_text()
    assert without_measured(again.rows) == without_measured(one.rows)
    other = launch(1, *arguments, "loss.label_smoothing=0.1", cwd=tmp_path)
    assert other.code == 1
    assert "loss.label_smoothing: 0.0 in the checkpoint, 0.1 now" in other.output
    assert "Traceback" not in other.output
    assert without_measured(other.rows) == without_measured(one.rows)
