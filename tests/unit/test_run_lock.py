"""One launch per run, and nothing left over from a launch that was killed."""

import fcntl
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dpo.errors import EnvironmentProblem
from dpo.records import RunFolder
from dpo.run_lock import RunLock

pytestmark = pytest.mark.unit

HOLDER = """
import sys, time
from pathlib import Path
from dpo.run_lock import RunLock
lock = RunLock(Path(sys.argv[1]))
lock.take()
print("taken", flush=True)
time.sleep(600)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return RunFolder(tmp_path / "outputs" / "run").lock


def test_the_second_is_refused_and_told_who_has_it(path: Path) -> None:
    first = RunLock(path)
    first.take()
    with pytest.raises(EnvironmentProblem, match=rf"trained by process {os.getpid()} on .* since .*name="):
        RunLock(path, wait_seconds=0.0).take()
    assert not (path.parent / "run").exists(), "a refused launch touches no run folder"
    first.release()
    RunLock(path, wait_seconds=0.0).take()


def test_a_killed_holder_holds_nothing(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second waits while the first is there, and has it as soon as that one is dead."""
    monkeypatch.setattr(logging.getLogger("dpo"), "propagate", True)
    caplog.set_level(logging.INFO, "dpo")
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "taken\n"
    with pytest.raises(EnvironmentProblem, match=f"process {holder.pid}"):
        RunLock(path, wait_seconds=0.3).take()
    assert "waiting 0.3 s for its end" in caplog.text
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    RunLock(path, wait_seconds=0.0).take()


def test_a_holder_that_has_not_written_its_name(path: Path) -> None:
    path.parent.mkdir(parents=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(EnvironmentProblem, match="another process"):
            RunLock(path, wait_seconds=0.0).take()


def test_a_file_system_without_locks_costs_one_warning(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(logging.getLogger("dpo"), "propagate", True)
    monkeypatch.setattr(fcntl, "flock", fail)
    RunLock(path).take()
    assert "has no locks" in caplog.text


def test_a_folder_that_cannot_be_written_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "outputs").write_text("")
    with pytest.raises(EnvironmentProblem, match="output_dir="):
        RunLock(tmp_path / "outputs" / ".run.lock").take()
