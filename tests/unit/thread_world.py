"""A world of several workers in threads of one process: enough for what agrees without tensors."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from dpo.distributed.watchdog import Watchdog

SECONDS = 60.0  # a worker that never comes fails the test instead of blocking it


class Meeting:
    """Where the workers exchange values."""

    def __init__(self, size: int):
        self.size = size
        self.values: list[Any] = [None] * size
        self.barrier = threading.Barrier(size, timeout=SECONDS)


class ThreadWorld:
    """What checkpoints and steps ask of a `World`."""

    zero = 0
    device = torch.device("cpu")
    sequence_size = 1

    def __init__(self, rank: int, meeting: Meeting):
        self.rank, self.size, self.is_main, self._meeting = rank, meeting.size, rank == 0, meeting
        self.watchdog = Watchdog()  # never started

    def collect(self, value: Any) -> list[Any]:
        self._meeting.values[self.rank] = value
        self._meeting.barrier.wait()
        found = list(self._meeting.values)
        self._meeting.barrier.wait()
        return found

    @property
    def data_rank(self) -> int:
        return self.rank

    def data_sum(self, values: Tensor) -> Tensor:
        return values.copy_(sum(self.collect(values.clone())))

    def agree(self, flag: bool) -> bool:
        return any(self.collect(flag))

    def barrier(self) -> None:
        self.collect(None)


def together(size: int, work: Callable[[Any], Any]) -> list[Any]:
    """`work(world)` on every worker at once; results in order of rank. An exception of any is raised here."""
    meeting = Meeting(size)
    with ThreadPoolExecutor(size) as pool:
        return [f.result(SECONDS) for f in [pool.submit(work, ThreadWorld(rank, meeting)) for rank in range(size)]]
