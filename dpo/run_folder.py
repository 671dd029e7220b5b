"""Which folder a run writes to, and where it continues: a fresh start, its own checkpoint, or another one's."""

import logging
from pathlib import Path

from dpo.checkpoint.choose import named, newest_whole
from dpo.checkpoint.folders import clear_leftovers
from dpo.checkpoint.manifest import read_manifest
from dpo.config.compose import as_dict, as_yaml, read_yaml
from dpo.config.identity import differences
from dpo.config.schema import RunConfig
from dpo.distributed.world import World
from dpo.errors import CheckpointError
from dpo.records import MetricsLog, RunFolder, write_atomic

log = logging.getLogger(__name__)

STOP = "STOP"  # a file of this name in the run's folder asks it to stop


def open_folder(config: RunConfig, folder: RunFolder, world: World) -> Path | None:
    """Make the run's folder ready and return the checkpoint to continue from, None for a fresh start. All workers call
    it; only the main one writes.

    Raises:
        CheckpointError: the checkpoint belongs to a run with other settings; or there are some, but none is whole.
    """
    checkpoint = _choose(config, folder, world)
    if checkpoint is not None:
        _require_same_run(config, checkpoint)
        log.info("resume: continuing from %s", checkpoint)
    world.barrier()  # everybody has looked before anything moves
    if world.is_main:
        if config.resume == "never" and folder.path.exists():
            _set_aside(folder)
        folder.create()
        write_atomic(folder.config, as_yaml(config))
        done = read_manifest(checkpoint).providers["progress"] if checkpoint else {"step": -1, "evaluated": -1}
        with MetricsLog(folder.metrics) as metrics:
            metrics.keep_until(done["step"], done["evaluated"])
        (folder.path / STOP).unlink(missing_ok=True)  # it stopped the launch before this one
        if checkpoint is None:
            folder.samples.unlink(missing_ok=True)
    world.barrier()
    return checkpoint


def _choose(config: RunConfig, folder: RunFolder, world: World) -> Path | None:
    if config.resume == "never":
        return None
    if world.is_main:
        clear_leftovers(folder.checkpoints)
    if config.resume == "auto":
        return newest_whole(folder.checkpoints, world)
    return named(Path(config.resume), world)


def _require_same_run(config: RunConfig, checkpoint: Path) -> None:
    saved = checkpoint.parents[1] / "config.yaml"
    if not saved.is_file():
        return
    if changed := differences(read_yaml(saved), as_dict(config)):
        raise CheckpointError(
            f"{checkpoint} belongs to a run with other settings:\n"
            + "\n".join(f"  - {line}" for line in changed)
            + "\nGive this run another name=, or start afresh with resume=never (the old folder is kept beside it)."
        )


def _set_aside(folder: RunFolder) -> None:
    number = next(n for n in range(1, 10_000) if not folder.path.with_name(f"{folder.name}.{n}").exists())
    old = folder.path.with_name(f"{folder.name}.{number}")
    folder.path.rename(old)
    log.info("resume=never: the earlier run is kept as %s", old)
