"""Which checkpoint a run continues from: the newest whole one, the same on all workers, never silently none."""

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from checkpoints import DictEngine, checkpoints, flip_bit, written
from one_worker import world
from thread_world import together

from dpo.checkpoint import choose
from dpo.checkpoint.choose import named, newest_whole
from dpo.checkpoint.folders import checkpoints_in, damaged_in
from dpo.errors import CheckpointError

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def own_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("dpo"), "propagate", True)


def spoil(checkpoint: Path) -> None:
    for file in checkpoint.glob("*.safetensors"):
        flip_bit(file)


def test_a_new_run_has_none(tmp_path: Path) -> None:
    assert newest_whole(tmp_path, world()) is None
    assert newest_whole(tmp_path / "nothing here", world()) is None


def test_the_newest_is_taken(tmp_path: Path) -> None:
    written(tmp_path, 9, 10, 8)
    assert newest_whole(tmp_path, world()) == tmp_path / "step-00000010"


def test_a_damaged_one_is_set_aside_and_the_one_before_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    written(tmp_path, 1, 2, 3)
    spoil(tmp_path / "step-00000003")
    (tmp_path / "step-00000002" / "manifest.json").unlink()
    assert newest_whole(tmp_path, world()) == tmp_path / "step-00000001"
    assert [path.name for path in checkpoints_in(tmp_path)] == ["step-00000001"]
    assert [path.name for path in damaged_in(tmp_path)] == ["step-00000002.damaged", "step-00000003.damaged"]
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 2
    assert "step-00000003" in warnings[0] and "checksum differs" in warnings[0] and ".damaged" in warnings[0]
    assert newest_whole(tmp_path, world()) == tmp_path / "step-00000001", "and again at the launch after this one"


def test_none_left_is_no_reason_to_begin_anew_silently(tmp_path: Path) -> None:
    written(tmp_path, 1, 2)
    for step in (1, 2):
        spoil(tmp_path / f"step-0000000{step}")
    for said in ("checksum differs", "set aside earlier"):
        with pytest.raises(CheckpointError, match="resume=never") as caught:
            newest_whole(tmp_path, world())
        assert said in str(caught.value) and "step-00000001" in str(caught.value)


def test_a_folder_that_cannot_be_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    written(tmp_path, 1, 2)
    spoil(tmp_path / "step-00000002")

    def refuse(path: Path) -> Path:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(choose, "set_aside", refuse)
    assert newest_whole(tmp_path, world()) == tmp_path / "step-00000001"
    assert "it stays where it is: Read-only file system" in caplog.text


def test_named_ones_are_never_renamed(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "checkpoints"
    written(folder, 1, 2)
    assert named(folder / "step-00000001", world()) == folder / "step-00000001"
    assert named(tmp_path / "run", world()) == folder / "step-00000002"
    spoil(folder / "step-00000002")
    with pytest.raises(CheckpointError, match="damaged") as caught:
        named(folder / "step-00000002", world())
    assert "state-00000-of-00001.safetensors is not what was written" in str(caught.value)
    assert named(tmp_path / "run", world()) == folder / "step-00000001"
    assert damaged_in(folder) == []
    with pytest.raises(CheckpointError, match="neither a checkpoint"):
        named(tmp_path, world())


def test_workers_share_the_reading_and_agree(tmp_path: Path) -> None:
    """Of two files each reads one; either's finding decides for both."""

    def write(member: Any) -> None:
        saving = checkpoints(tmp_path / "c", member, keep=3)
        for step in (1, 2, 3):
            saving.save(step, DictEngine(step), {}, {})  # type: ignore[arg-type]
        saving.finish()

    together(2, write)
    flip_bit(tmp_path / "c" / "step-00000003" / "state-00000-of-00002.safetensors")
    flip_bit(tmp_path / "c" / "step-00000002" / "state-00001-of-00002.safetensors")
    found = together(2, lambda member: newest_whole(tmp_path / "c", member))
    assert found == [tmp_path / "c" / "step-00000001"] * 2
    assert len(damaged_in(tmp_path / "c")) == 2


def test_who_does_not_see_the_folder_leaves_the_reading_to_the_others(tmp_path: Path) -> None:
    """Here worker 1, which would have read the file that is damaged in step 2."""

    def write(member: Any) -> None:
        saving = checkpoints(tmp_path / "node0", member, keep=2)
        for step in (1, 2):
            saving.save(step, DictEngine(step), {}, {})  # type: ignore[arg-type]
        saving.finish()

    together(2, write)
    flip_bit(tmp_path / "node0" / "step-00000002" / "state-00001-of-00002.safetensors")
    found = together(2, lambda member: newest_whole(tmp_path / f"node{member.rank}", member))
    assert [path and path.name for path in found] == ["step-00000001"] * 2
    assert [path.name for path in damaged_in(tmp_path / "node0")] == ["step-00000002.damaged"]


def test_all_follow_the_first_worker(tmp_path: Path) -> None:
    """A shared folder shows new names to some workers later than to others."""
    written(tmp_path / "node0", 1)
    shutil.copytree(tmp_path / "node0", tmp_path / "node1")
    written(tmp_path / "node1", 2, keep=2)
    found = together(2, lambda member: newest_whole(tmp_path / f"node{member.rank}", member))
    assert [path.name for path in found] == ["step-00000001"] * 2
