"""Which checkpoint a run continues from: rank 0 looks and tells the others, the files are read by all who share its
storage."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from dpo.checkpoint.damage import damage
from dpo.checkpoint.folders import checkpoints_in, damaged_in, set_aside
from dpo.checkpoint.manifest import MANIFEST
from dpo.disk import explain
from dpo.distributed.world import World
from dpo.errors import CheckpointError

log = logging.getLogger(__name__)


def newest_whole(folder: Path, world: World) -> Path | None:
    """The newest checkpoint in `folder` whose every file is what was written; damaged ones newer than it are set aside.
    None when there never was one. A collective.

    Raises:
        CheckpointError: there are checkpoints, but none is whole.
    """
    return _newest(folder, world.near, world, aside=True)


def named(path: Path, world: World) -> Path:
    """The checkpoint that `resume=<folder>` names: a checkpoint, or a run whose newest whole one is taken. Nothing is
    renamed. A collective.

    Raises:
        CheckpointError: there is none, or the one that was named is damaged.
    """
    if world.collect((path / MANIFEST).is_file())[0]:
        if lines := _damage(path, [0], world):  # who shares that folder is not known
            raise CheckpointError(f"resume={path}: this checkpoint is damaged:{_listed(lines)}\nName another one.")
        return path
    if found := _newest(path / "checkpoints", [0], world, aside=False):
        return found
    raise CheckpointError(f"resume={path}: neither a checkpoint (no {MANIFEST}) nor a run with checkpoints.")


def _newest(folder: Path, readers: Sequence[int], world: World, *, aside: bool) -> Path | None:
    looked = ([path.name for path in checkpoints_in(folder)], [path.name for path in damaged_in(folder)])
    names, before = world.collect(looked)[0]
    found: list[str] = []
    for name in reversed(names):
        lines = _damage(folder / name, readers, world)
        if not lines:
            return folder / name
        found += [f"{name}: {line}" for line in lines]
        if world.is_main:
            where = _aside(folder / name) if aside else "left as it is"
            log.warning("checkpoint %s is damaged and passed over (%s):%s", folder / name, where, _listed(lines))
        world.barrier()  # nobody looks at the next one, or starts anew, while a folder is renamed
    if found or before:
        why = _listed([*found, *(f"{name}: set aside earlier" for name in before)])
        raise CheckpointError(
            f"{folder} holds checkpoints, but none that is whole:{why}\nTo start afresh say so with resume=never: the "
            "folder of this run is then kept beside the new one."
        )
    return None


def _damage(checkpoint: Path, readers: Sequence[int], world: World) -> list[str]:
    """The same lines on all workers; each of the `readers` that sees it, at least worker 0, reads its share."""
    start = time.perf_counter()
    seen = world.collect(checkpoint.is_dir())  # a shared folder shows new names to some later than to others
    readers = [rank for rank in readers if seen[rank]]
    mine = damage(checkpoint, slice(readers.index(world.rank), None, len(readers))) if world.rank in readers else []
    lines = sorted({line for lines in world.collect(mine) for line in lines})
    if not lines:
        log.info("checkpoint %s: whole, read in %.1f s", checkpoint, time.perf_counter() - start)
    return lines


def _aside(checkpoint: Path) -> str:
    try:
        return f"kept as {set_aside(checkpoint).name}"
    except OSError as error:
        return f"it stays where it is: {explain(error, checkpoint.parent)}"


def _listed(lines: list[str]) -> str:
    return "".join(f"\n  {line}" for line in lines)
