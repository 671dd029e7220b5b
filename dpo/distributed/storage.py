"""Which workers share storage with worker 0. The others, on machines with output folders of their own, write nothing
that belongs to the run, and are sent what they need of it."""

import logging
import secrets
from pathlib import Path

from dpo.distributed.world import World

log = logging.getLogger(__name__)


def workers_near(lock: Path, world: World) -> list[int]:
    """Ranks that see what worker 0 writes beside the run's `lock`, which it holds; itself among them. Looked for, not
    asked for. A collective."""
    folder, name = lock.parent, world.on_main(lambda: f"{lock.name}.seen-{secrets.token_hex(8)}")
    if world.is_main:
        (folder / name).touch()
    world.barrier()
    seen = world.collect(_sees(folder, name))
    if world.is_main:
        for probe in folder.glob(f"{lock.name}.seen-*"):  # and what a kill between the two left
            probe.unlink(missing_ok=True)
    near = [rank for rank, sees in enumerate(seen) if sees]
    if len(near) < world.size:
        log.info(
            "storage: %d of %d workers do not see %s of worker 0's machine, where checkpoints, records and the trained "
            "model are kept: it sends them what they need",
            world.size - len(near),
            world.size,
            folder,
        )
    return near


def _sees(folder: Path, name: str) -> bool:
    """By a list of the folder, which a network file system asks its server for; of a single name it may remember that
    it was not there."""
    try:
        return any(path.name == name for path in folder.iterdir())
    except OSError:
        return False
