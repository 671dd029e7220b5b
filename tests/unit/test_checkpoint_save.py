"""Saving: in the background as in the foreground, whole or not at all, and a disk that fails ends nothing."""

import errno
import logging
import threading
from pathlib import Path
from typing import Any

import pytest
from checkpoints import DictEngine, checkpoints, provider, written
from one_worker import world
from thread_world import together

from dpo.checkpoint import save, writing
from dpo.checkpoint.damage import damage
from dpo.checkpoint.folders import checkpoints_in
from dpo.checkpoint.manifest import read_manifest
from dpo.checkpoint.restore import restore
from dpo.checkpoint.tensor_file import write_tensors
from dpo.distributed.storage import workers_near

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def own_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("dpo"), "propagate", True)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Gate:
    """Holds back every writing thread until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.open, self.reached = threading.Event(), threading.Event()

        def held(path: Path, tensors: Any) -> Any:
            self.reached.set()
            assert self.open.wait(60)
            return write_tensors(path, tensors)

        monkeypatch.setattr(writing, "write_tensors", held)


def fail(monkeypatch: pytest.MonkeyPatch, number: int, *ranks: int) -> None:
    """The disk of these workers takes half a file."""

    def failing(path: Path, tensors: Any) -> Any:
        record = write_tensors(path, tensors)
        if any(path.name.startswith(f"state-{rank:05d}") for rank in ranks):
            path.write_bytes(path.read_bytes()[: record.size // 2])
            raise OSError(number, "the reason")
        return record

    monkeypatch.setattr(writing, "write_tensors", failing)


def test_background_and_foreground_are_bit_identical(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training changes the very tensors in place while the thread writes."""
    engine = DictEngine()
    checkpoints(tmp_path / "fore", background=False).save(1, engine, {}, {})  # type: ignore[arg-type]
    gate = Gate(monkeypatch)
    saving = checkpoints(tmp_path / "back")
    saving.save(1, engine, {}, {})  # type: ignore[arg-type]
    assert gate.reached.wait(60)
    engine.train()
    saving.poll()
    assert names(tmp_path / "back") == [".writing-step-00000001"], "nothing is committed before it is written"
    gate.open.set()
    saving.finish()
    found = [read_manifest(tmp_path / kind / "step-00000001").files for kind in ("fore", "back")]
    assert found[0] == found[1]
    assert damage(tmp_path / "back" / "step-00000001") == []


def test_restored_is_what_was_saved(tmp_path: Path) -> None:
    engine = written(tmp_path, 1, 2)
    found, progress = DictEngine(seed=9), provider()
    restore(tmp_path / "step-00000002", found, {"progress": progress}, world())  # type: ignore[arg-type]
    assert found.equals(engine) and progress.loaded == {"step": 2}


def test_the_next_save_waits_for_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, engine, saving = Gate(monkeypatch), DictEngine(), checkpoints(tmp_path / "c")
    saving.save(1, engine, {}, {})  # type: ignore[arg-type]
    threading.Timer(0.2, gate.open.set).start()
    saving.save(2, engine, {}, {})  # type: ignore[arg-type]
    assert (tmp_path / "c" / "step-00000001").is_dir()
    saving.finish()
    assert names(tmp_path / "c") == ["step-00000001", "step-00000002"]


def test_poll_commits_when_it_is_written(tmp_path: Path) -> None:
    engine, saving = DictEngine(), checkpoints(tmp_path / "c")
    saving.save(1, engine, {}, {})  # type: ignore[arg-type]
    while not (tmp_path / "c" / "step-00000001").exists():
        saving.poll()
    assert names(tmp_path / "c") == ["step-00000001"]


def test_what_has_not_changed_is_not_written_twice(tmp_path: Path) -> None:
    """A request to stop right after a save; but another state of the same step is."""
    engine, saving, found = DictEngine(), checkpoints(tmp_path / "c"), []
    for state in ({"owed": 0}, {"owed": 0}, {"owed": 1}):
        saving.save(1, engine, {"progress": provider(**state)}, {})  # type: ignore[arg-type]
        saving.finish()
        found.append(damage(tmp_path / "c" / "step-00000001"))
        (tmp_path / "c" / "step-00000001" / "state-00000-of-00001.safetensors").write_bytes(b"")
    assert [len(lines) for lines in found] == [0, 1, 0]


def test_the_newest_waits_for_what_is_under_way(tmp_path: Path) -> None:
    saving = checkpoints(tmp_path / "c")
    assert saving.newest() is None
    saving.save(3, DictEngine(), {}, {})  # type: ignore[arg-type]
    assert saving.newest() == tmp_path / "c" / "step-00000003"


def test_the_line_says_how_long_and_how_much(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    written(tmp_path, 7)
    assert "checkpoint step 7: 0.0 s copied, 0.0 s written in the background, 0.0 MB" in caplog.text


@pytest.mark.parametrize(
    ("number", "cure"),
    [
        (errno.ENOSPC, "make room there"),
        (errno.EDQUOT, "make room there"),
        (errno.EROFS, "make it writable"),
        (errno.ESTALE, "still mounted?"),
        (errno.EIO, "still mounted?"),
    ],
)
def test_a_disk_that_fails(
    number: int, cure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine, saving, folder = DictEngine(), checkpoints(tmp_path / "c", keep=1), tmp_path / "c"
    saving.save(1, engine, {}, {})  # type: ignore[arg-type]
    saving.finish()
    fail(monkeypatch, number, 0)
    saving.save(2, engine, {}, {})  # type: ignore[arg-type]
    saving.finish()
    assert "the reason" in saving.problem and cure in saving.problem
    assert "checkpoint step 2 could not be written" in caplog.text and "since step 1" in caplog.text
    assert names(folder) == ["step-00000001"] and damage(folder / "step-00000001") == []
    monkeypatch.undo()
    saving.save(3, engine, {}, {})  # type: ignore[arg-type]
    saving.finish()
    assert not saving.problem
    assert names(folder) == ["step-00000003"] and damage(folder / "step-00000003") == []


def test_the_manifest_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full just then: the tensors alone are no checkpoint."""

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(save, "write_manifest", full)
    saving = checkpoints(tmp_path / "c")
    saving.save(1, DictEngine(), {}, {})  # type: ignore[arg-type]
    saving.finish()
    assert "No space left" in saving.problem
    assert names(tmp_path / "c") == []


def test_an_error_of_another_kind_is_told_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ValueError("a fault of the program")

    monkeypatch.setattr(writing, "write_tensors", broken)
    saving = checkpoints(tmp_path / "c")
    saving.save(1, DictEngine(), {}, {})  # type: ignore[arg-type]
    saving.finish()
    assert "ValueError: a fault of the program" in saving.problem


def test_nothing_is_written_under_a_lost_mount(tmp_path: Path) -> None:
    """The mount point is an empty folder then: making the run's folder in it would fill another disk."""
    saving = checkpoints(tmp_path / "run" / "checkpoints")
    (tmp_path / "run").rmdir()
    saving.save(1, DictEngine(), {}, {})  # type: ignore[arg-type]
    saving.finish()
    assert "still mounted?" in saving.problem
    assert names(tmp_path) == []


def test_two_workers_write_one_checkpoint(tmp_path: Path) -> None:
    engine = DictEngine()

    def work(world: Any) -> None:
        saving = checkpoints(tmp_path / "c", world)
        saving.save(1, engine, {"progress": provider(step=1)}, {})  # type: ignore[arg-type]
        while not (tmp_path / "c" / "step-00000001").exists():
            saving.poll()
            world.barrier()
        assert not saving.problem

    together(2, work)
    manifest = read_manifest(tmp_path / "c" / "step-00000001")
    assert manifest.world_size == 2 and list(manifest.files) == [f"state-0000{r}-of-00002.safetensors" for r in (0, 1)]
    found = DictEngine(seed=3)
    restore(tmp_path / "c" / "step-00000001", found, {"progress": provider()}, world())  # type: ignore[arg-type]
    assert found.equals(engine)


def test_embedding_and_head_are_copied_by_different_workers() -> None:
    """In turns, worker 0 would have both: nearly everything."""
    sizes = {"embed": 100, "q": 10, "k": 10, "norm": 1, "head": 100}
    assert writing._share_out(sizes, 1) == [set(sizes)]
    shares = writing._share_out(sizes, 2)
    assert shares == [{"embed", "q", "norm"}, {"head", "k"}]
    assert writing._share_out({"only": 5}, 2) == [{"only"}, set()]


def test_workers_on_disks_of_their_own(tmp_path: Path) -> None:
    """Those who share storage with worker 0 write all of it, and all load it from there."""
    written, found = DictEngine(), [DictEngine(seed=3) for _ in range(3)]

    def work(member: Any) -> Path | None:
        place = tmp_path / ("node1" if member.rank == 1 else "node0")
        place.mkdir(exist_ok=True)
        member.near = workers_near(place / ".run.lock", member)
        saving = checkpoints(place / "c", member)
        saving.save(1, written, {"progress": provider(step=1)}, {})  # type: ignore[arg-type]
        saving.finish()
        assert saving.problem == "" and list(member.near) == [0, 2]
        newest = saving.newest()
        restore(newest, found[member.rank], {"progress": provider()}, member)  # type: ignore[arg-type]
        return newest

    newest = tmp_path / "node0" / "c" / "step-00000001"
    assert together(3, work)[0] == newest
    assert list(read_manifest(newest).files) == [f"state-0000{r}-of-00002.safetensors" for r in (0, 1)]
    assert names(tmp_path / "node1") == []
    assert all(engine.equals(written) for engine in found)
    assert list((tmp_path / "node0").glob(".run*")) == []


def test_storage_that_comes_apart_while_a_run_goes_on(tmp_path: Path) -> None:
    """Each has written well, but nobody could read it all again."""

    def work(member: Any) -> str:
        saving = checkpoints(tmp_path / f"node{member.rank}" / "c", member)
        saving.save(1, DictEngine(), {}, {})  # type: ignore[arg-type]
        saving.finish()
        return saving.problem

    found = together(2, work)
    assert found[0] == found[1] and "state-00001-of-00002.safetensors is missing, as seen by worker 0" in found[0]
    assert checkpoints_in(tmp_path / "node0" / "c") == []


@pytest.mark.parametrize("rank", [0, 1])
def test_one_of_two_workers_fails(rank: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All hear of it, nobody waits for ever, nothing half stands there; the next save goes well."""
    engine, folder = DictEngine(), tmp_path / "c"
    fail(monkeypatch, errno.ENOSPC, rank)

    def work(world: Any) -> tuple[str, str]:
        saving = checkpoints(folder, world)
        saving.save(1, engine, {}, {})  # type: ignore[arg-type]
        saving.finish()
        problem = saving.problem
        if world.is_main:
            assert names(folder) == []
            monkeypatch.undo()
        world.barrier()
        saving.save(2, engine, {}, {})  # type: ignore[arg-type]
        saving.finish()
        return problem, saving.problem

    found = together(2, work)
    assert found[0] == found[1]
    assert found[0][0].startswith(f"worker {rank}: the reason") and found[0][1] == ""
    assert [path.name for path in checkpoints_in(folder)] == ["step-00000002"]
