"""Ends a job in which nothing moves any more, and names the worker that is at fault. Without it the others wait for the
time-out of their collective, which then names a connection."""

import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import torch.distributed as dist

from dpo.distributed import launcher
from dpo.distributed.heartbeats import (
    BEAT_SECONDS,
    GONE_SECONDS,
    SILENT_SECONDS,
    Beat,
    Heartbeats,
    NoAnswer,
    describe_silent,
    describe_still,
    describe_unreachable,
)
from dpo.errors import EnvironmentProblem, UserError

log = logging.getLogger(__name__)

COLLECTIVES = ("/torch/distributed/", "/deepspeed/", "/dpo/distributed/")  # where a main thread waits for the others
LOST_CONTACT = ("gloo", "nccl", "connection", "timed out")  # in the words of an error of a collective
# After another worker has said why it ends: first comes an error of this one's own, then it is interrupted where it
# works by itself, then ended where it stands still. Of another machine's workers its launcher knows nothing.
HEED_SECONDS, LEAVE_SECONDS = 5.0, 30.0


class Watchdog:
    """Of one worker. A thread sends a beat every second and hears what others announce; another one counts for how long
    the main thread has reported nothing.

    A worker without a beat ends the job in any case. For one that lives but stands still work must come in pieces:
    micro-batches, rows of the reference pass and of an evaluation. What has no pieces (loading, tokenizing, compiling,
    writing a checkpoint, answering prompts) is reported as not limited, and bounded by the collective in which the
    others wait (zero.timeout_seconds).
    """

    def __init__(self, this_start: str = "first") -> None:
        self._this_start = this_start  # see dpo/distributed/rendezvous.py
        self.tell: Callable[[str], None] = lambda cause: None  # called by the worker that gives the job up first
        self.heed: Callable[[str], None] = lambda cause: None  # called when the job is over for another one's reason
        self._heartbeats: Heartbeats | None = None
        self._limit_seconds = 0.0
        self._moves, self._where, self._limited = 0, "the start", False
        self._still, self._number = 0, 0  # in beats
        self._news, self._lost = "", False  # why another worker has ended; whether the store is gone with its holder
        self._known = 0  # for how many beats one of them is known
        self._judging = False
        self._over = threading.Event()
        self._main = threading.main_thread()

    def start(self, rank: int, size: int, limit_seconds: float) -> None:
        """Begin to watch; alone there is nobody to wait for."""
        if size == 1:
            return
        try:
            self._heartbeats = Heartbeats.connect(self._this_start, rank, size)
        except (RuntimeError, KeyError) as error:
            log.warning("no heartbeats, a worker that hangs will not be named: %s", error)
            return
        self._limit_seconds = limit_seconds
        for name, work in (("dpo-heartbeat", self._talk), ("dpo-watchdog", self._watch)):
            threading.Thread(target=work, args=[self._heartbeats], name=name, daemon=True).start()

    def stop(self) -> None:
        self._over.set()

    def moved(self, where: str, limited: bool = True) -> None:
        """The main thread begins a piece of work, the same on every worker. It may take `guard.hang_seconds`."""
        self._where, self._limited = where, limited
        self._moves += 1

    @contextmanager
    def explained(self) -> Iterator[None]:
        """An error because another worker is gone says which one and why.

        Raises:
            EnvironmentProblem: instead of the collective's own error.
        """
        try:
            yield
        except Exception as error:
            if cause := self._cause(error):
                raise EnvironmentProblem(cause) from error
            raise

    def _cause(self, error: Exception) -> str | None:
        """Why a collective failed; None for an error that is this worker's own, which the others are told."""
        if self._heartbeats is None:
            return None
        self.moved("the end", limited=False)
        try:
            if _is_lost_contact(error):
                return self._why_lost(self._heartbeats)
            self._heartbeats.announce(f"{self._beat(self._heartbeats.rank).name} ended: {_first_line(error)}")
        except (RuntimeError, OSError):  # no store, no disk
            log.debug("the others could not be asked or told", exc_info=True)
        return None

    def _why_lost(self, heartbeats: Heartbeats) -> str | None:
        """What a worker announced before it left, or which workers are silent; None when all are there."""
        try:
            if heartbeats.announced() is None:
                silent, _ = heartbeats.look(SILENT_SECONDS)
                cause = describe_silent(silent) if silent else ""
                if cause and heartbeats.announce(cause):
                    self.tell(cause)  # by whoever is first: worker 0 may be the one that is gone
            return heartbeats.announced()
        except NoAnswer:
            return describe_unreachable(heartbeats.main, socket.gethostname())

    def _watch(self, heartbeats: Heartbeats) -> None:
        seen = self._moves
        while not self._over.wait(BEAT_SECONDS):
            # Beats of this thread, not the clock: a job that was suspended as a whole has not hung.
            self._still = self._still + 1 if self._moves == seen else 0
            seen = self._moves
            self._leave_with_others(heartbeats)
            if self._overdue() and not self._judging:
                self._judging = True
                # In a thread of its own: the others are to see this one alive while they all look who is not.
                threading.Thread(target=self._judge, args=[heartbeats], name="dpo-judge", daemon=True).start()

    def _talk(self, heartbeats: Heartbeats) -> None:
        """Waits for as long as the store is out of reach, which may pass."""
        while not self._over.wait(BEAT_SECONDS):
            self._number += 1
            try:
                heartbeats.send(self._beat(heartbeats.rank))
                self._news = heartbeats.hear() or ""
            except dist.DistNetworkError:  # closed by the other side
                self._lost = True
                return
            except RuntimeError:  # too late an answer, from a machine that is busy
                log.debug("the store with the heartbeats did not answer", exc_info=True)

    def _leave_with_others(self, heartbeats: Heartbeats) -> None:
        """The job is over: another worker has said so, or the launcher that held the store is gone, whose workers save
        and leave."""
        self._known += bool(self._news) or self._lost
        if self._known == HEED_SECONDS // BEAT_SECONDS:
            self.heed(self._news or "the launcher of worker 0 is gone")
        elif self._news and min(self._known, self._still) * BEAT_SECONDS >= LEAVE_SECONDS:
            if launcher.local_rank() == 0:  # one for its machine, whose screen shows nothing of the other's
                log.error("%s", self._news)
            os._exit(1)

    def _overdue(self) -> bool:
        return self._still * BEAT_SECONDS >= self._limit_seconds

    def _judge(self, heartbeats: Heartbeats) -> None:
        """Give the job up, unless something has moved again, or all workers are there and their work has no limit."""
        try:
            silent, living = heartbeats.look(SILENT_SECONDS if self._limited else GONE_SECONDS, self._overdue)
            if self._overdue() and (self._limited or silent):
                self._give_up(heartbeats, describe_silent(silent) if silent else describe_still(living))
        except NoAnswer:
            if self._cut_off(heartbeats) and self._overdue():
                self._leave(describe_unreachable(heartbeats.main, socket.gethostname()))
        except RuntimeError as error:
            where = f"nothing has moved for {self._limit_seconds:g} s at {self._where}"
            if self._overdue() and self._limited:
                self._leave(f"{where}, and the store with the other workers' heartbeats is gone: {error}")
        self._still, self._judging = 0, False

    def _cut_off(self, heartbeats: Heartbeats) -> bool:
        """Whether the store stays silent."""
        try:
            heartbeats.read(SILENT_SECONDS if self._limited else GONE_SECONDS)
        except NoAnswer:
            return True
        except RuntimeError:
            log.debug("whoever held the store has ended meanwhile")
        return False

    def _give_up(self, heartbeats: Heartbeats, cause: str) -> None:
        """Leave with all others; the first one says why."""
        try:
            if heartbeats.announce(cause):
                self._leave(cause, self.tell)
        except RuntimeError:  # no store any more
            self._leave(cause)
        os._exit(1)

    def _leave(self, cause: str, tell: Callable[[str], None] = lambda cause: None) -> None:
        """Past the main thread, which may never return from where it is."""
        log.error("%s (guard.hang_seconds=%g)", cause, self._limit_seconds)
        with suppress(OSError):  # no disk
            tell(cause)
        os._exit(1)

    def _beat(self, rank: int) -> Beat:
        line, waiting = _place(sys._current_frames().get(self._main.ident or 0))
        return Beat(
            rank=rank,
            host=socket.gethostname(),
            pid=os.getpid(),
            number=self._number,
            moves=self._moves,
            still_seconds=self._still * BEAT_SECONDS,
            where=self._where,
            line=line,
            waiting=waiting,
        )


def _place(frame: FrameType | None) -> tuple[str, bool]:
    """("dpo/step.py:38 train_step", whether that is inside a collective)."""
    if frame is None:
        return "no longer running", False
    file = Path(frame.f_code.co_filename)
    text = f"{'/'.join(file.parts[-2:])}:{frame.f_lineno} {frame.f_code.co_name}"
    return text, any(part in file.as_posix() for part in COLLECTIVES)


def _first_line(error: Exception) -> str:
    text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return text.splitlines()[0]


def _is_lost_contact(error: Exception) -> bool:
    if isinstance(error, dist.DistError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in LOST_CONTACT)
