"""The files of a run: never half written, strict JSON, no step twice after a resume."""

import json
import math
import os
from pathlib import Path

import numpy
import pytest

from dpo.records import (
    MetricsLog,
    RunFolder,
    append_lines,
    encode_line,
    read_metrics,
    read_status,
    write_atomic,
    write_status,
)


def strict(text: str) -> dict:
    """Parse as a strict JSON reader does: Python's own accepts NaN without being asked."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_folder_names_every_file_and_touches_nothing(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "outputs" / "demo")
    assert folder.name == "demo"
    found = [folder.status, folder.config, folder.metrics, folder.rejects, folder.samples]
    assert [path.name for path in found] == [
        "status.json",
        "config.yaml",
        "metrics.jsonl",
        "rejects.jsonl",
        "samples.jsonl",
    ]
    assert [path.name for path in (folder.plots, folder.checkpoints, folder.final)] == ["plots", "checkpoints", "final"]
    assert {path.parent for path in found} == {folder.path}
    assert not folder.path.exists()
    assert folder.create().path.is_dir()


def test_atomic_write_keeps_the_old_file_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "file.txt"
    write_atomic(path, "old")
    synced: list[int] = []
    real_fsync = os.fsync

    def watched(number: int) -> None:
        synced.append(number)
        real_fsync(number)

    monkeypatch.setattr(os, "fsync", watched)
    write_atomic(path, "new ä")
    assert path.read_text(encoding="utf-8") == "new ä"
    assert synced, "the bytes must be on disk before the rename"

    def full(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, "half")
    assert path.read_text(encoding="utf-8") == "new ä"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.txt"]


def test_status_merges_changes(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "demo")
    assert read_status(folder) is None
    write_status(folder, state="running", total_steps=80, wandb_id="abc")
    status = write_status(folder, state="stopped", why="SIGTERM", step=12)
    assert status == read_status(folder)
    assert (status.state, status.why, status.step, status.total_steps, status.wandb_id, status.name) == (
        "stopped",
        "SIGTERM",
        12,
        80,
        "abc",
        "demo",
    )
    assert status.updated.endswith("+00:00")


def test_status_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with pytest.raises(ValueError, match="finished"):
        write_status(folder, state="finished")
    with pytest.raises(TypeError):
        write_status(folder, steps=3)
    assert not folder.status.exists()


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", "3", '{"state": "dancing"}', '{"state": "running", "st'])
def test_broken_status_is_none_and_can_be_replaced(tmp_path: Path, text: str) -> None:
    folder = RunFolder(tmp_path)
    folder.status.write_text(text)
    assert read_status(folder) is None
    assert write_status(folder, step=3).step == 3


def test_status_of_a_newer_version_is_read(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.status.write_text('{"state": "done", "step": 5, "mood": "good"}')
    status = read_status(folder)
    assert status is not None and (status.state, status.step) == ("done", 5)


def test_metrics_are_on_disk_at_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    log.append({"step": 1, "split": "train", "loss": 0.69})
    assert [strict(line) for line in path.read_text().splitlines()] == [{"step": 1, "split": "train", "loss": 0.69}]
    log.close()


def test_numbers_that_are_none_stay_visible_in_strict_json(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        log.append({"step": 1, "loss": math.nan, "grad_norm": math.inf, "rewards/margins": -math.inf})
    row = strict(path.read_text())
    assert row == {"step": 1, "loss": "NaN", "grad_norm": "Infinity", "rewards/margins": "-Infinity"}
    (back,) = read_metrics(path)
    assert math.isnan(back["loss"]) and back["grad_norm"] == math.inf and back["rewards/margins"] == -math.inf


def test_numbers_of_other_libraries_and_what_cannot_be_written(tmp_path: Path) -> None:
    assert strict(encode_line({"a": numpy.float32(0.5), "b": numpy.int64(3), "c": numpy.float64("nan"), "d": [1, ()]}))
    assert strict(encode_line({"a": numpy.float32("inf")})) == {"a": "Infinity"}
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        with pytest.raises(TypeError, match="object"):
            log.append({"step": 1, "loss": object()})
        log.append({"step": 2})
    assert read_metrics(path) == [{"step": 2}]


def test_resume_drops_later_steps_and_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        log.append({"step": 0, "split": "eval", "loss": 0.69})
        for step in range(1, 8):
            log.append({"step": step, "split": "train", "loss": math.nan if step == 2 else step / 10})
        log.append({"step": 5, "split": "eval", "loss": 0.5})
    with path.open("a") as file:
        file.write('{"step": 8, "lo')
    log.keep_until(5, 5)
    for step in range(6, 9):
        log.append({"step": step, "split": "train", "loss": -1.0})
    log.close()
    rows = read_metrics(path)
    assert [row["step"] for row in rows if row["split"] == "train"] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [row["step"] for row in rows if row["split"] == "eval"] == [0, 5]
    assert math.isnan(rows[2]["loss"]) and rows[-1]["loss"] == -1.0
    assert all(strict(line) for line in path.read_text().splitlines())
    log.keep_until(-1, -1)
    assert read_metrics(path) == []


def test_resume_drops_the_evaluation_that_its_checkpoint_still_owes(tmp_path: Path) -> None:
    """Stopped in the evaluation of step 4, then killed after it was made up for: it is made again."""
    path = tmp_path / "metrics.jsonl"
    rows = [{"step": step, "split": split} for step in (2, 4) for split in ("train", "eval")]
    with MetricsLog(path) as log:
        for row in rows:
            log.append(row)
        log.keep_until(4, 2)
    assert read_metrics(path) == rows[:-1]


def test_appending_after_a_kill_loses_only_the_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2, "loss": 0.')
    with MetricsLog(path) as log:
        log.append({"step": 2})
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_missing_files_are_empty(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "none.jsonl") == []
    MetricsLog(tmp_path / "none.jsonl").keep_until(3, 0)
    assert list(tmp_path.iterdir()) == []


def test_text_with_line_separators_stays_one_record(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    append_lines(path, [{"answer": "a\u2028b\nc\x85d"}])
    append_lines(path, [{"answer": "second"}])
    assert [row["answer"] for row in read_metrics(path)] == ["a\u2028b\nc\x85d", "second"]
