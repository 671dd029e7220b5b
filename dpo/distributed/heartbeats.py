"""Signs of life of all workers in the job's key-value store, and what can be read from them: which worker is gone,
which one stands still, and where."""

import json
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch.distributed as dist

from dpo.distributed.rendezvous import job_store

T = TypeVar("T")

# 1000 workers write 1000 times 300 bytes a second and ask 2000 times; one store took 118,000 writes (2 busy cores).
BEAT_SECONDS = 1.0
# Without a beat for so long: killed, stopped, or the machine is gone. The first where the job ends anyway and only the
# name is wanted: a busy host delays beats by 1 to 2 s. The second to end it: Python runs nothing else while it sorts a
# long list or collects garbage.
SILENT_SECONDS, GONE_SECONDS = 5.0, 60.0
STORE_SECONDS = 5.0  # may the store take to answer
SHOWN = 4  # workers told of when none stands out


@dataclass(kw_only=True, slots=True)
class Beat:
    """What a worker tells about itself every BEAT_SECONDS. No wall clock: those of two machines differ."""

    rank: int
    host: str
    pid: int
    number: int  # of beats: does not change any more once the process is gone or stopped
    moves: int  # of the main thread's reports; all workers report the same work
    still_seconds: float  # since the last report
    where: str  # that report: "step 137, micro-batch 2 of 4"
    line: str  # of code that the main thread is in: "dpo/step.py:38 train_step"
    waiting: bool  # that line is part of a collective

    @property
    def name(self) -> str:
        return f"worker {self.rank} (host {self.host}, pid {self.pid})"


class NoAnswer(RuntimeError):
    """The store is silent: the machine of worker 0 is gone, or the network on the way there."""


class Heartbeats:
    """Every worker's latest beat. What asks raises NoAnswer after STORE_SECONDS, and RuntimeError when whoever held the
    store has ended."""

    def __init__(self, store: dist.Store, rank: int, size: int):
        self._store, self.rank, self.size = store, rank, size
        self.main: Beat | None = None  # of worker 0, beside the store, when it last answered

    @classmethod
    def connect(cls, start: str, rank: int, size: int) -> "Heartbeats":
        """Over a connection of its own: that of the process group may be waiting. Raises what `job_store` does."""
        return cls(job_store(f"{start}/heartbeats", timedelta(seconds=STORE_SECONDS)), rank, size)

    def send(self, beat: Beat) -> None:
        self._store.set(str(self.rank), json.dumps(asdict(beat)))

    def read(self, seconds: float | None = None) -> dict[int, Beat]:
        """The latest beat of every worker that has sent one. `seconds`: in which the store has to answer."""

        def ask() -> dict[int, Beat]:
            return {rank: beat for rank in range(self.size) if (beat := self._latest(rank))}

        return _within(seconds or STORE_SECONDS, ask)

    def announce(self, cause: str) -> bool:
        """Tell everybody why the job ends. True for the first to do so: what others find later are consequences."""
        first = _within(STORE_SECONDS, lambda: self._store.compare_set("cause", "", cause))
        return first.decode() == cause

    def announced(self) -> str | None:
        """Why the job ends, when somebody has said so."""
        return _within(STORE_SECONDS, self.hear)

    def hear(self) -> str | None:
        """The same, for as long as it takes."""
        self.main = self._latest(0)
        return self._store.get("cause").decode() if self._store.check(["cause"]) else None

    def _latest(self, rank: int) -> Beat | None:
        return Beat(**json.loads(self._store.get(str(rank)))) if self._store.check([str(rank)]) else None

    def look(self, seconds: float, needed: Callable[[], bool] = lambda: True) -> tuple[list[Beat], list[Beat]]:
        """(silent, living): who sends no beat and who does while watched for so long; nobody when it is `needed` no
        more."""
        before, end = self.read(), time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not needed():
                return [], []
            time.sleep(min(left, BEAT_SECONDS))
        after = self.read()
        silent = {rank for rank, beat in after.items() if rank in before and before[rank].number == beat.number}
        return [after[r] for r in sorted(silent)], [after[r] for r in sorted(after.keys() - silent)]


def _within(seconds: float, ask: Callable[[], T]) -> T:
    """What `ask` returns, in a thread of its own: on a connection that is cut without notice `TCPStore.check` waits for
    as long as the kernel sends again, a quarter of an hour, whatever the store's time-out (torch 2.13)."""
    answers: queue.SimpleQueue[tuple[Any, Exception | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put((ask(), None))
        except Exception as error:
            answers.put((None, error))

    threading.Thread(target=run, name="dpo-store", daemon=True).start()
    try:
        value, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise NoAnswer(f"no answer for {seconds:g} s") from None
    if isinstance(error, dist.DistStoreError):  # its own time-out
        raise NoAnswer(str(error)) from error
    if error is not None:
        raise error
    return value


def describe_unreachable(main: Beat | None, host: str) -> str:
    """Of a store that is silent, as seen from `host`."""
    name = f"{main.name}, last heard of at {main.where}" if main else "worker 0"
    return f"{host} does not reach the machine of {name}: it is gone, or the network between the two is cut"


def describe_silent(silent: list[Beat]) -> str:
    found = [f"{beat.name} gives no sign of life, last seen at {beat.where} ({beat.line})" for beat in silent[:SHOWN]]
    more = f"; and {len(silent) - SHOWN} more" if len(silent) > SHOWN else ""
    return f"{'; '.join(found)}{more}: killed, stopped, cut off, or its machine is gone"


def describe_still(beats: list[Beat]) -> str:
    """Of living workers that all stand still, those that the others wait for."""
    held_up = behind(beats)
    shown = [f"{b.name} has not moved for {b.still_seconds:.0f} s: {b.where} ({b.line})" for b in held_up[:SHOWN]]
    if len(held_up) == len(beats):
        return f"no worker is behind the others, so a device or the network hangs: {'; '.join(shown)}"
    return f"{'; '.join(shown)}; {len(beats) - len(held_up)} others wait for that"


def behind(beats: list[Beat]) -> list[Beat]:
    """Those with the fewest reports, and of these the ones that are not themselves waiting in a collective."""
    fewest = min(beat.moves for beat in beats)
    last = [beat for beat in beats if beat.moves == fewest]
    return [beat for beat in last if not beat.waiting] or last
