"""Processes that hang, are stopped or killed, and a second launch of the same run: the job ends or goes on, and says
which worker it was."""

import os
import re
import signal
from pathlib import Path

import pytest
from test_resume import ZERO3, assert_as_undisturbed

from launch import (
    ROOT,
    SMALL,
    TWENTY,
    WORKERS,
    Ended,
    command,
    finish,
    launch,
    python,
    start,
    train,
    wait_for_step,
    workers_of,
)

pytestmark = pytest.mark.run

# Two workers without DeepSpeed, for as long as they are let.
ENDLESS = (*SMALL, "zero=off", "optim.epochs=1000", "checkpoint.every=0", "guard.hang_seconds=6", "name=endless")
IMPATIENT = {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "2"}  # seconds that torchrun leaves a worker which ignores SIGTERM


def test_a_second_launch_is_refused_and_a_stopped_worker_named(tmp_path: Path) -> None:
    """The second launch changes nothing in the folder; the first one's worker 1 is then stopped, as by a debugger."""
    first = start(command(2, ROOT / "train.py", *ENDLESS), tmp_path, **IMPATIENT)
    folder = tmp_path / "endless"
    try:
        wait_for_step(first, folder / "metrics.jsonl", 1)
        main, other = workers_of(first)
        second = launch(1, *ENDLESS, "loss.beta=0.2", cwd=tmp_path)
        status = second.status
        os.kill(other, signal.SIGSTOP)
    finally:
        code, output = finish(first)
    assert second.code == 1 and "Traceback" not in second.output
    assert f"being trained by process {main} on " in second.output and "name=" in second.output
    assert status["state"] == "running"
    assert code == 1
    ended = Ended(code=code, output=output, folder=folder)
    for text in (output, ended.status["why"]):
        assert "worker 1 (host " in text and f"pid {other}) gives no sign of life, last seen at step " in text
    assert ended.status["state"] == "failed"
    assert [row["step"] for row in ended.train] == list(range(1, len(ended.train) + 1)), "the second launch wrote"


@pytest.mark.slow
def test_a_worker_that_hangs_is_named_with_the_line_it_hangs_in(tmp_path: Path) -> None:
    process = start(command(2, WORKERS / "hanging.py", *ENDLESS), tmp_path, **IMPATIENT)
    code, output = finish(process)
    assert code == 1
    ended = Ended(code=code, output=output, folder=tmp_path / "endless")
    for text in (output, ended.status["why"]):
        assert re.search(r"worker 1 \(.*\) has not moved for \d+ s: step 4, its pairs \(workers/hanging.py:\d+", text)
        assert "1 others wait for that" in text
    assert ended.status["state"] == "failed" and ended.train[-1]["step"] == 3


def test_a_killed_worker_and_a_killed_launcher_cost_nothing_but_time(two: Ended, tmp_path: Path) -> None:
    """torchrun starts the workers again after one of them was killed. Then it is killed itself: its workers stop with a
    checkpoint, and the next launch ends as if nothing had been."""
    arguments = (*TWENTY, *ZERO3, "checkpoint.every=2", "name=killed")
    process = start([*python(2), "--max_restarts", "1", str(ROOT / "train.py"), *arguments], tmp_path)
    metrics = tmp_path / "killed" / "metrics.jsonl"
    try:
        wait_for_step(process, metrics, 3)
        killed = workers_of(process)
        os.kill(killed[1], signal.SIGKILL)
        wait_for_step(process, metrics, 11)
        assert not set(workers_of(process)) & set(killed), "torchrun has not started the workers again"
        process.kill()
    finally:
        code, output = finish(process)
    assert code == -signal.SIGKILL
    assert f"pid {killed[1]}) gives no sign of life" in output
    stopped = Ended(code=code, output=output, folder=tmp_path / "killed")
    assert stopped.status["state"] == "stopped" and "SIGTERM" in stopped.status["why"], output
    assert stopped.status["step"] < 20 and stopped.checkpoints[-1] == f"step-{stopped.status['step']:08d}"
    again = train(2, *arguments, cwd=tmp_path)
    assert_as_undisturbed(again, two)
    weights = "final/model.safetensors"
    assert (again.folder / weights).read_bytes() == (two.folder / weights).read_bytes()
