"""TensorBoard: its files say what metrics.jsonl says, once, and no fault of theirs reaches the run."""

import errno
import logging
from pathlib import Path
from typing import Any

import pytest
from tracking import clean, own_lines  # noqa: F401

from dpo.config.schema import TrackConfig
from dpo.errors import EnvironmentProblem
from dpo.track import choose
from dpo.track.choose import make_tracker, require_tracker
from dpo.track.tensorboard_tracker import TensorboardTracker
from dpo.track.tracker import NullTracker, Several
from dpo.track.wandb_tracker import WandbTracker

pytestmark = pytest.mark.unit

HISTOGRAM = {"-1": 1, "1": 3}  # around zero; bins of 2^(1/4)
ROWS = [{"step": s, "split": "train", "loss": s / 8, "rewards/margins_histogram": HISTOGRAM} for s in range(1, 7)]
ROWS.insert(4, {"step": 4, "split": "eval", "loss": 0.25, "epoch": 1})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pytest.importorskip("tensorboard", reason="pip install -e '.[tensorboard]'")
    return tmp_path / "run" / "tensorboard"


def write(folder: Path, rows: list[dict[str, Any]], *, end: bool = True) -> None:
    tracking = TensorboardTracker(folder=folder)
    assert tracking.start({"seed": 1, "hub_token": "t0p"}, "demo", "w4ndb") == "w4ndb"
    for row in rows:
        tracking.log(row, row["step"])
    if end:
        tracking.finish()


def shown(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of every name, as TensorBoard shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    read.Reload()
    return {name: [(entry.step, entry.value) for entry in read.Scalars(name)] for name in read.Tags()["scalars"]}


def test_names_and_numbers_are_those_of_wandb(folder: Path) -> None:
    write(folder, ROWS)
    assert shown(folder) == {
        "loss": [(s, s / 8) for s in range(1, 7)],
        "eval/loss": [(4, 0.25)],
        "eval/epoch": [(4, 1)],
    }


def test_a_histogram_keeps_its_buckets_and_settings_hold_no_secret(folder: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    write(folder, ROWS)
    read = EventAccumulator(str(folder), size_guidance={"histograms": 0})
    read.Reload()
    first = read.Histograms("rewards/margins_histogram")[0]
    value, near, far = first.histogram_value, 2**-10, 2**-9.75
    assert (first.step, value.num, value.min, value.max) == (1, 4, -far, far)
    assert dict(zip(value.bucket_limit, value.bucket, strict=True)) == {-far: 0, -near: 1, near: 0, far: 3}
    (file,) = folder.iterdir()
    assert b'"seed": 1' in file.read_bytes() and b"t0p" not in file.read_bytes()


def test_a_killed_run_goes_on_without_gap_or_repetition(folder: Path) -> None:
    """As a kill leaves it: no end, half a record. Told from the beginning again; the first time of a step stays."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    write(folder, ROWS[:4], end=False)
    (file,) = folder.iterdir()
    file.write_bytes(file.read_bytes()[:-20])
    read = EventAccumulator(str(folder))
    read.Reload()
    before = {entry.step: entry.wall_time for entry in read.Scalars("loss")}
    write(folder, ROWS)
    assert shown(folder)["loss"] == [(s, s / 8) for s in range(1, 7)]
    assert len(list(folder.iterdir())) == 1
    read = EventAccumulator(str(folder))
    read.Reload()
    after = {entry.step: entry.wall_time for entry in read.Scalars("loss")}
    assert len(before) == 3 and after | before == after


def test_a_full_disk_costs_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tracking = TensorboardTracker(folder=folder)
    tracking.start({}, "demo")

    def full(_: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tracking._file, "write", full)
    for row in ROWS:
        tracking.log(row, row["step"])
    tracking.finish()
    (line,) = own_lines(caplog)
    assert "No space left on device" in line and "metrics.jsonl has all numbers" in line


def test_a_folder_that_cannot_be_made_costs_one_line(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder.parent.mkdir()
    folder.write_text("a file")
    write(folder, ROWS)
    assert len(own_lines(caplog)) == 1


def test_it_is_one_of_several_on_the_main_worker_alone(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dpo")
    settings = TrackConfig(wandb="off", tensorboard=True)
    assert isinstance(make_tracker(settings, folder.parent, is_main=False), NullTracker)
    assert isinstance(make_tracker(settings, folder.parent, is_main=True), TensorboardTracker)
    both = make_tracker(TrackConfig(wandb="offline", tensorboard=True), folder.parent, is_main=True)
    assert isinstance(both, Several)
    assert [type(one) for one in both.trackers] == [WandbTracker, TensorboardTracker]
    assert both.start({}, "demo", "both") == "both"
    both.log(ROWS[0], 1)
    both.summary({"final/loss": 0.5})
    both.finish()
    assert shown(folder) == {"loss": [(1, 0.125)]}
    assert list(folder.parent.glob("wandb/offline-run-*-both"))


def test_a_missing_package_is_told_at_the_start_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose.importlib.util, "find_spec", lambda _: None)
    require_tracker(TrackConfig())
    with pytest.raises(EnvironmentProblem, match=r"track\.tensorboard=true needs .*\.\[tensorboard\]"):
        require_tracker(TrackConfig(tensorboard=True))
