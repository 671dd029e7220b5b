"""One worker's share of one save, written by a thread of its own while training goes on."""

import heapq
import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dpo.checkpoint.folders import WRITING, name_of
from dpo.checkpoint.manifest import FileRecord
from dpo.checkpoint.tensor_file import write_tensors
from dpo.disk import explain, require_folder
from dpo.distributed.engine import Engine
from dpo.distributed.placement import shape
from dpo.distributed.world import World

log = logging.getLogger(__name__)

WAIT_SECONDS = 60.0  # between two lines that say what the run is waiting for


@dataclass(kw_only=True, slots=True)
class Written:
    """What a worker's thread has come to."""

    name: str  # of the file
    file: FileRecord | None  # None: it failed, or had nothing to write
    problem: str
    seconds: float


class Writing:
    """Begins with the object: `share` must not change any more."""

    def __init__(self, folder: Path, step: int, share: dict[str, Tensor] | None, world: World):
        self.step = step
        self.temporary = folder / f"{WRITING}{name_of(step)}"
        self._name = _name(world)
        self._share = share
        self._written: Written | None = None
        # daemon: a run that fails must not wait for a disk that may be the reason.
        self._thread = threading.Thread(target=self._run, name="checkpoint", daemon=True)
        self._thread.start()

    def under_way(self) -> bool:
        return self._thread.is_alive()

    def wait(self) -> Written:
        """Until this worker's share is written or has failed."""
        while self.under_way():
            self._thread.join(WAIT_SECONDS)
            if self.under_way():
                log.warning("still waiting for %s to be written", self.temporary)
        assert self._written is not None
        return self._written

    def _run(self) -> None:
        start, file, problem = time.perf_counter(), None, ""
        try:
            file = self._write() if self._share is not None else None
        except Exception as error:  # whatever it is, all workers hear of it where they agree on this save
            problem = explain(error, self.temporary.parent)
        self._share = None
        seconds = time.perf_counter() - start
        self._written = Written(name=self._name, file=file, problem=problem, seconds=seconds)

    def _write(self) -> FileRecord:
        assert self._share is not None
        require_folder(self.temporary.parents[1])
        for folder in (self.temporary.parent, self.temporary):  # each worker: one may not see another's at once (NFS)
            folder.mkdir(exist_ok=True)
        return write_tensors(self.temporary / self._name, self._share)


def copy_share(engine: Engine, world: World) -> dict[str, Tensor] | None:
    """This worker's part of the parameters' state, copied to the host's memory: 12 bytes per trained weight, divided as
    evenly as whole parameters allow by the number of workers that see worker 0's storage; None for the others. A
    collective: all see every tensor pass by."""
    writers = list(world.near)
    shares = _share_out({name: shape(p).numel() for name, p in engine.parameters()}, len(writers))
    mine = shares[writers.index(world.rank)] if world.rank in writers else None
    share: dict[str, Tensor] = {}
    for name, tensors in engine.state():
        if mine is not None and name in mine:
            share |= {f"{part}/{name}": _copied(tensor) for part, tensor in tensors.items()}
    return None if mine is None else share


def _name(world: World) -> str:
    """Of this worker's file; empty without one."""
    writers = list(world.near)
    if world.rank not in writers:
        return ""
    return f"state-{writers.index(world.rank):05d}-of-{len(writers):05d}.safetensors"


def _share_out(sizes: dict[str, int], workers: int) -> list[set[str]]:
    """Names per worker: the largest first to whom has least (LPT, Graham 1969). Embedding and output head of a small
    model are most of it: taken in turns, both can fall to one worker."""
    shares: list[set[str]] = [set() for _ in range(workers)]
    least = [(0, worker) for worker in range(workers)]
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        held, worker = heapq.heappop(least)
        shares[worker].add(name)
        heapq.heappush(least, (held + sizes[name], worker))
    return shares


def _copied(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float32, copy=True).contiguous()
