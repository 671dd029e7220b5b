"""Which folder a run writes to, and where it continues: a fresh start, its own checkpoint, or another one's."""

import json
import logging
import os
from pathlib import Path

from dpo.checkpoint.choose import named, newest_whole
from dpo.checkpoint.folders import checkpoints_in, clear_leftovers
from dpo.checkpoint.manifest import read_manifest
from dpo.config.compose import as_dict, as_yaml, read_yaml
from dpo.config.identity import changes
from dpo.config.inputs import inputs
from dpo.config.schema import RunConfig
from dpo.distributed.world import World
from dpo.errors import CheckpointError
from dpo.records import MetricsLog, RunFolder, keep_rows, write_atomic
from dpo.redact import redact

log = logging.getLogger(__name__)

STOP = "STOP"  # a file of this name in the run's folder asks it to stop
ANOTHER_RUN = "Give this run another name=, or start afresh with resume=never (the old folder is kept beside it)."


def open_folder(config: RunConfig, folder: RunFolder, world: World) -> Path | None:
    """Make the run's folder ready and return the checkpoint to continue from, None for a fresh start. All workers call
    it; only the main one writes.

    Raises:
        CheckpointError: the checkpoint belongs to a run with other settings, or with other files under the same names;
            or there are some, but none is whole.
    """
    checkpoint = _choose(config, folder, world)
    if checkpoint is not None:
        for line in world.on_main(lambda: _require_same_run(config, checkpoint, world.size)):
            log.info("resume: %s", line)
        log.info("resume: continuing from %s", checkpoint)
    world.barrier()  # everybody has looked before anything moves
    if world.is_main:
        if folder.config.exists() and _begins_anew(config, folder, checkpoint):
            log.info("the earlier run in this folder is kept as %s", _set_aside(folder.path))
        folder.create()
        done = read_manifest(checkpoint).providers["progress"] if checkpoint else {"step": -1, "evaluated": -1}
        _forget_after(done["step"], done["evaluated"], folder)
        if checkpoint is None or not folder.config.exists():
            write_atomic(folder.inputs, json.dumps(inputs(config), indent=2) + "\n")
            write_settings(config, folder)
    world.barrier()
    return checkpoint


def write_settings(config: RunConfig, folder: RunFolder) -> None:
    """What a later launch is compared with."""
    write_atomic(folder.config, as_yaml(config))


def _choose(config: RunConfig, folder: RunFolder, world: World) -> Path | None:
    if config.resume == "never":
        return None
    if world.is_main:
        clear_leftovers(folder.checkpoints)
    if config.resume == "auto":
        return newest_whole(folder.checkpoints, world)
    own = newest_whole(folder.checkpoints, world) if world.collect(_began_so(config, folder))[0] else None
    return own or named(Path(config.resume), world)


def _began_so(config: RunConfig, folder: RunFolder) -> bool:
    """Whether an earlier launch of the same resume=<folder> wrote here: what it has trained since is not lost."""
    return folder.config.is_file() and read_yaml(folder.config)["resume"] == config.resume


def _begins_anew(config: RunConfig, folder: RunFolder, checkpoint: Path | None) -> bool:
    """Whether what lies in the folder is of a run that this one does not continue."""
    if config.resume == "never":
        return True
    own = checkpoint is not None and checkpoint.resolve().is_relative_to(folder.path.resolve())
    return config.resume != "auto" and not own and not _began_so(config, folder)


def _forget_after(step: int, evaluated: int, folder: RunFolder) -> None:
    """Take away what an earlier launch left of what comes later: it is done, and written down, again."""
    with MetricsLog(folder.metrics) as metrics:
        metrics.keep_until(step, evaluated)
    keep_rows(folder.samples, lambda row: row["step"] <= evaluated)  # answers are part of an evaluation
    (folder.path / STOP).unlink(missing_ok=True)  # it stopped the launch before this one
    for later in checkpoints_in(folder.checkpoints):  # resume=<an earlier one>: auto would take the newest next time
        if step >= 0 and int(later.name.removeprefix("step-")) > step:
            later = later.rename(later.with_name(f"later-{later.name}"))
            log.info("resume: a checkpoint of a later step is kept as %s", _set_aside(later))


def _require_same_run(config: RunConfig, checkpoint: Path, world_size: int) -> list[str]:
    """What has changed and may change, for the log. Raises CheckpointError."""
    folder = RunFolder(checkpoint.parents[1])
    if not folder.config.is_file():
        log.warning("resume: no %s to compare the settings with", folder.config)
        return []
    saved = json.loads(folder.inputs.read_text()) if folder.inputs.is_file() else {}
    found = changes(read_yaml(folder.config), redact(as_dict(config), os.environ), saved, inputs(config))
    if found.refused:
        lines = "\n".join(f"  - {line}" for line in found.refused)
        raise CheckpointError(f"{checkpoint} belongs to a run with other settings:\n{lines}\n{ANOTHER_RUN}")
    return [*found.allowed, *_workers(checkpoint, world_size)]


def _workers(checkpoint: Path, now: int) -> list[str]:
    before = read_manifest(checkpoint).world_size
    return [] if before == now else [f"workers: {before} in the checkpoint, {now} now: goes on"]


def _set_aside(path: Path) -> Path:
    """Give it the first free of the names `<name>.1`, `<name>.2`, ..."""
    return path.rename(
        next(free for n in range(1, 10_000) if not (free := path.with_name(f"{path.name}.{n}")).exists())
    )
