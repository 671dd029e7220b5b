"""Saving: copied at a step boundary, written in the background, committed by all workers at a later boundary."""

import logging
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from dpo.checkpoint.choose import newest_whole
from dpo.checkpoint.damage import damage
from dpo.checkpoint.folders import put_in_place, remove
from dpo.checkpoint.manifest import Manifest, write_manifest
from dpo.checkpoint.retain import superfluous, whole_in
from dpo.checkpoint.writing import Writing, Written, copy_share
from dpo.config.schema import CheckpointConfig
from dpo.disk import explain, require_folder
from dpo.distributed.engine import Engine
from dpo.distributed.world import World

log = logging.getLogger(__name__)


class Provider(Protocol):
    """Something with state that a resumed run needs."""

    def state_dict(self) -> dict[str, Any]:
        """JSON values."""

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass(kw_only=True, slots=True)
class Moment:
    """What a checkpoint says about the step it is of."""

    step: int
    providers: dict[str, Any]
    metrics: dict[str, float]


@dataclass(kw_only=True, slots=True)
class UnderWay:
    """A save that is not committed yet."""

    moment: Moment
    writing: Writing
    copy_seconds: float


class Checkpoints:
    """The checkpoints of one run. Every method is a collective: all workers call it at the same step boundary.

    A save that fails (a full disk, a lost mount) leaves the checkpoints before it as they are and the run training;
    `problem` then says why, on all workers.
    """

    def __init__(self, folder: Path, settings: CheckpointConfig, world: World):
        self.folder, self.settings, self.world = folder, settings, world
        self.problem = ""  # of the last save; empty when it went well
        self._under_way: UnderWay | None = None
        self._newest: tuple[int, dict[str, Any]] | None = None  # step and providers of what need not be saved again

    def save(self, step: int, engine: Engine, providers: dict[str, Provider], metrics: dict[str, float]) -> None:
        """Copy the state and begin to write it; wait for a save that is still under way before that.

        Args:
            metrics: of the held-out set at this step, for `checkpoint.best`.
        """
        self.finish()
        state = {name: provider.state_dict() for name, provider in providers.items()}
        moment = Moment(step=step, providers=state, metrics=metrics)
        if not self.world.agree((step, state) != self._newest):  # a request to stop right after a save
            return
        self.world.watchdog.moved(f"the checkpoint of step {step}", limited=False)
        start = time.perf_counter()
        share = copy_share(engine, self.world)
        seconds = time.perf_counter() - start
        writing = Writing(self.folder, step, share, self.world)
        self._under_way = UnderWay(moment=moment, writing=writing, copy_seconds=seconds)
        if not self.settings.background:
            self.finish()

    def poll(self) -> None:
        """Commit the save under way if all workers have written their shares. One agreed flag while there is one,
        nothing otherwise."""
        if self._under_way and not self.world.agree(self._under_way.writing.under_way()):
            self.finish()

    def finish(self) -> None:
        """Wait for the save under way and commit it."""
        if self._under_way is None:
            return
        saving, self._under_way = self._under_way, None
        self.world.watchdog.moved(f"the end of the checkpoint of step {saving.moment.step}", limited=False)
        shares: list[Written] = self.world.collect(saving.writing.wait())
        said = [f"worker {rank}: {share.problem}" for rank, share in enumerate(shares) if share.problem]
        if not said and self.world.is_main:
            said = self._commit(saving, shares)
        self.problem = "; ".join(self.world.collect(said)[0])
        if not self.problem:
            self._newest = (saving.moment.step, saving.moment.providers)
        elif self.world.is_main:
            self._give_up(saving)

    def continue_from(self, step: int, providers: dict[str, Provider]) -> None:
        """What was restored is not saved again before something changes."""
        self._newest = (step, {name: provider.state_dict() for name, provider in providers.items()})

    def newest(self) -> Path | None:
        """The newest whole checkpoint, after what is under way; see `dpo.checkpoint.choose`. Raises CheckpointError."""
        self.finish()
        return newest_whole(self.folder, self.world)

    def _commit(self, saving: UnderWay, shares: list[Written]) -> list[str]:
        """Manifest, then the final name. Returns what went wrong."""
        moment, temporary = saving.moment, saving.writing.temporary
        manifest = Manifest(
            step=moment.step,
            world_size=self.world.size,
            zero_stage=self.world.zero,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            files={share.name: share.file for share in shares if share.file},
            providers=moment.providers,
            metrics=moment.metrics,
        )
        try:
            require_folder(temporary)
            write_manifest(temporary, manifest)
            if lacking := damage(temporary, read=False):
                return [f"{'; '.join(lacking)}, as seen by worker 0: is the storage still the one that they share?"]
            put_in_place(temporary)
        except OSError as error:
            return [explain(error, self.folder)]
        log.info(
            "checkpoint step %d: %.1f s copied, %.1f s written%s, %.1f MB",
            moment.step,
            saving.copy_seconds,
            max(share.seconds for share in shares),
            " in the background" if self.settings.background else "",
            manifest.size / 1e6,
        )
        self._forget()
        return []

    def _forget(self) -> None:
        try:
            for old in superfluous(whole_in(self.folder, read=False), self.settings):
                remove(old.folder)
        except OSError as error:
            log.warning("an old checkpoint cannot be removed: %s", explain(error, self.folder))

    def _give_up(self, saving: UnderWay) -> None:
        shutil.rmtree(saving.writing.temporary, ignore_errors=True)  # a full disk needs the room
        newest = whole_in(self.folder, read=False)[-1:]
        log.warning(
            "checkpoint step %d could not be written: %s. Those before it are untouched and the next save tries again; "
            "until then a kill would lose everything since %s",
            saving.moment.step,
            self.problem,
            f"step {newest[0].manifest.step}" if newest else "its beginning",
        )
