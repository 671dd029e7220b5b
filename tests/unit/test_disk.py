"""Records on storage that fails: the run goes on, and nothing is lost when it works again."""

import errno
import logging
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dpo.disk import Backlog, explain
from dpo.progress import Progress
from dpo.recorder import Recorder
from dpo.records import MetricsLog, RunFolder, append_lines, read_metrics, read_status

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def own_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("dpo"), "propagate", True)


@contextmanager
def files_no_longer_than(n_bytes: int) -> Iterator[None]:
    """The system takes a part of a write, then refuses: what a disk does that is nearly full."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))


def test_a_row_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    log.append({"step": 1})
    before = path.read_bytes()
    for write in (log.append, lambda row: append_lines(path, [{"step": 0}, row])):
        with files_no_longer_than(len(before) + 20), pytest.raises(OSError, match="too large"):
            write({"step": 2, "text": "x" * 100})
        assert path.read_bytes() == before
    log.append({"step": 3})
    assert [row["step"] for row in read_metrics(path)] == [1, 3]


def test_what_fails_waits_and_the_order_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    done: list[int] = []
    works = False

    def write(n: int) -> None:
        if not works:
            raise OSError(errno.ENOSPC, "No space left on device")
        done.append(n)

    backlog = Backlog(tmp_path)
    for n in range(5):
        backlog.write(lambda n=n: write(n))  # type: ignore[misc]
    assert len(backlog) == 5 and done == []
    assert caplog.text.count("No space left on device") == 1, "said once"
    works = True
    backlog.write(lambda: write(5))
    assert done == [0, 1, 2, 3, 4, 5] and len(backlog) == 0
    assert "none is missing" in caplog.text


def test_an_error_of_another_kind_is_raised(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        MetricsLog(tmp_path / "m").append({"a": object()})

    def broken() -> None:
        raise TypeError

    with pytest.raises(TypeError):
        Backlog(tmp_path).write(broken)


def recorder(folder: RunFolder) -> Recorder:
    silent: Any = SimpleNamespace(log=lambda *_: None, summary=lambda _: None, finish=lambda _: None)
    symptoms: Any = SimpleNamespace(see=lambda _: [])
    return Recorder(folder, silent, Progress(9, enabled=False), symptoms=symptoms, is_main=True)


def test_a_run_whose_folder_is_gone_for_a_while(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As under a lost mount: nothing is made in its place, and all is there afterwards, in order."""
    folder = RunFolder(tmp_path / "run").create()
    records = recorder(folder)
    records.log({"step": 1, "split": "train"})
    folder.path.rename(tmp_path / "elsewhere")
    records.status(total_steps=9)
    records.log({"step": 2, "split": "train"})
    records.samples(2, [{"answer": "a"}])
    assert not folder.path.exists()
    assert "still mounted?" in caplog.text and "The run goes on" in caplog.text
    shutil.move(tmp_path / "elsewhere", folder.path)
    records.log({"step": 3, "split": "train"})
    records.status(step=3)
    records.close(0, {})
    assert [row["step"] for row in read_metrics(folder.metrics)] == [1, 2, 3]
    assert read_metrics(folder.samples) == [{"step": 2, "answer": "a"}]
    status = read_status(folder)
    assert status is not None and (status.total_steps, status.step) == (9, 3)


def test_records_that_never_found_room_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = RunFolder(tmp_path / "run")
    records = recorder(folder)
    records.log({"step": 1, "split": "train"})
    records.close(1, {})
    assert "1 records could not be written" in caplog.text
    assert not folder.path.exists()


def test_explanations(tmp_path: Path) -> None:
    full = explain(OSError(errno.ENOSPC, "No space left on device"), tmp_path)
    assert "MB free in" in full and "make room" in full
    assert "make it writable" in explain(PermissionError(errno.EACCES, "Permission denied"), tmp_path)
    assert "mounted?" in explain(OSError(errno.ESTALE, "Stale file handle"), tmp_path / "gone")
    assert explain(ValueError("odd"), tmp_path) == f"ValueError: odd in {tmp_path}"
    assert "an unknown number of bytes" in explain(OSError(errno.ENOSPC, "No space"), tmp_path / "gone")
