"""`python -m dpo status`: one line for people, an exit code for scripts."""

from pathlib import Path

import pytest
from runs import finished

from dpo import cli
from dpo.records import RunFolder, write_status
from dpo.run_lock import RunLock, is_held
from dpo.status import describe

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("state", "why", "code", "said"),
    [
        ("done", "", 0, "done, step 40 of 40"),
        ("failed", "no disk\nmore of it", 1, "failed after step 40 of 40: no disk"),
        ("stopped", "received SIGTERM", 3, "stopped after step 40 of 40: received SIGTERM"),
        ("stopped", "found outputs/x/STOP", 3, "stopped after step 40 of 40: found outputs/x/STOP"),
        ("stopped", "worker 3 received SIGUSR1", 75, "stopped after step 40 of 40: worker 3 received SIGUSR1"),
        ("stopped", "reached checkpoint.deadline=auto", 75, "reached checkpoint.deadline=auto"),
        ("running", "", 1, "killed after step 40 of 40"),
    ],
)
def test_how_a_run_ended(state: str, why: str, code: int, said: str, tmp_path: Path) -> None:
    folder = RunFolder(Path(finished(tmp_path / "x")))
    write_status(folder, state=state, why=why)
    text, found = describe(folder)
    assert found == code and said in text


def test_a_run_whose_lock_is_held_is_running(tmp_path: Path) -> None:
    folder = RunFolder(Path(finished(tmp_path / "x", state="running")))
    lock = RunLock(folder.lock)
    assert not is_held(folder.lock)
    lock.take()
    assert describe(folder) == (f"{folder.path}: running, step 40 of 40", 4)
    lock.release()
    assert not is_held(folder.lock)


def test_no_run_is_no_success(tmp_path: Path) -> None:
    assert describe(RunFolder(tmp_path / "x")) == (f"{tmp_path / 'x'}: no run has begun here", 1)


def test_a_run_is_found_by_its_folder_or_by_its_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "setup_logging", lambda is_main: None)  # the test's logging stays as it is
    finished(tmp_path / "x")
    assert cli.command_line(["status", str(tmp_path / "x")]) == 0
    assert cli.command_line(["status", f"output_dir={tmp_path}", "name=x", "optim.lr=1e-6"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'x'}: done, step 40 of 40\n" * 2
