"""Signs of life of all workers in the job's key-value store, and what can be read from them: which worker is gone,
which one stands still, and where."""

import json
import time
from dataclasses import asdict, dataclass
from datetime import timedelta

import torch.distributed as dist

from dpo.distributed.rendezvous import job_store

BEAT_SECONDS = 1.0  # 1000 workers write 1000 times 300 bytes a second; one store took 118,000 (2 busy cores)
# Without a beat for so long: killed, stopped, or the machine is gone. The first where the job ends anyway and only the
# name is wanted: a busy host delays beats by 1 to 2 s. The second to end it: Python runs nothing else while it sorts a
# long list or collects garbage.
SILENT_SECONDS, GONE_SECONDS = 5.0, 60.0
STORE_SECONDS = 10.0  # may the store take to answer
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


class Heartbeats:
    """Every worker's latest beat."""

    def __init__(self, store: dist.Store, rank: int, size: int):
        self._store, self.rank, self.size = store, rank, size

    @classmethod
    def connect(cls, start: str, rank: int, size: int) -> "Heartbeats":
        """Over a connection of its own: that of the process group may be waiting. Raises what `job_store` does."""
        return cls(job_store(f"{start}/heartbeats", timedelta(seconds=STORE_SECONDS)), rank, size)

    def send(self, beat: Beat) -> None:
        self._store.set(str(self.rank), json.dumps(asdict(beat)))

    def read(self) -> dict[int, Beat]:
        """The latest beat of every worker that has sent one."""
        known = [str(rank) for rank in range(self.size) if self._store.check([str(rank)])]
        return {int(rank): Beat(**json.loads(self._store.get(rank))) for rank in known}

    def announce(self, cause: str) -> bool:
        """Tell everybody why the job ends. True for the first to do so: what others find later are consequences."""
        return self._store.compare_set("cause", "", cause).decode() == cause

    def announced(self) -> str | None:
        return self._store.get("cause").decode() if self._store.check(["cause"]) else None

    def look(self, seconds: float) -> tuple[list[Beat], list[Beat]]:
        """(silent, living): who sends no beat and who does while watched for so long."""
        before = self.read()
        time.sleep(seconds)
        after = self.read()
        silent = {rank for rank, beat in after.items() if rank in before and before[rank].number == beat.number}
        return [after[r] for r in sorted(silent)], [after[r] for r in sorted(after.keys() - silent)]


def describe_silent(silent: list[Beat]) -> str:
    found = [f"{beat.name} gives no sign of life, last seen at {beat.where} ({beat.line})" for beat in silent[:SHOWN]]
    more = f"; and {len(silent) - SHOWN} more" if len(silent) > SHOWN else ""
    return f"{'; '.join(found)}{more}: killed, stopped, or the machine is gone"


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
