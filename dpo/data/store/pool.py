"""Chunks through a pool of processes: results in the order of the chunks, and no more in memory than are under way."""

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from multiprocessing import get_context, parent_process
from pathlib import Path

from dpo.data.store.work import Chunk, Done, Work
from dpo.errors import EnvironmentProblem

ALONE = 8  # chunks that this process does by itself: a process of the pool takes seconds to start
AHEAD = 2  # chunks per process under way: one that is worked on, one that waits
MOST = 32  # processes by default: rows are read and results written by one, at some 10,000 pairs/s
CPU_MAX = Path("/sys/fs/cgroup/cpu.max")  # "200000 100000": microseconds of CPU time per period
# A scheduler that asks every process to stop ends the pool; the request to this one, which then stops, is on its way.
REQUEST_SECONDS = 1.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


def cores() -> int:
    """Cores that this job may use, at most `MOST`: by its affinity (taskset, Slurm) and its container's share."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = CPU_MAX.read_text().split()
        found = min(found, max(1, int(quota) // int(period)))
    except (OSError, ValueError):  # no container, or "max": no limit
        pass
    return min(found, MOST)


def through_pool(chunks: Iterable[Chunk], work: Work, processes: int) -> Generator[Done, None, None]:
    """`work.do` of every chunk, in order.

    Raises:
        EnvironmentProblem: a process of the pool was killed.
        Exception: whatever `work.do` raised, with the row as a note.
    """
    waiting_chunks = iter(chunks)
    first = list(islice(waiting_chunks, ALONE + 1))
    if processes == 1 or len(first) <= ALONE:
        yield from map(work.do, chain(first, waiting_chunks))
        return
    # Not forked: this process has threads of torch and of collectives, whose locks a fork would copy as they are.
    pool = ProcessPoolExecutor(processes, get_context("spawn"), _begin, (work,))
    # A thread starts them: what a request to stop raises in the main thread would leave one half started.
    starter = ThreadPoolExecutor(1, initializer=_block_signals)
    try:
        under_way: deque[Future[Done]] = deque()
        for chunk in chain(first, waiting_chunks):
            under_way.append(starter.submit(pool.submit, _do, chunk).result())
            if len(under_way) >= AHEAD * processes:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    except BrokenProcessPool as error:
        time.sleep(REQUEST_SECONDS)
        raise EnvironmentProblem(
            f"one of {processes} processes that prepare the data was killed, most likely for lack of memory: set "
            "data.workers to fewer"
        ) from error
    finally:
        starter.shutdown()
        pool.shutdown(cancel_futures=True)  # waits for what is worked on, a second or two


_work: Work  # of this process of the pool


def _begin(work: Work) -> None:
    """In a process of the pool."""
    global _work
    _work = work
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # with which a broken pool ends what is left of it
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # processes are parallel enough, threads in each would only wait
    threading.Thread(target=_leave_with_parent, name="leave-with-parent", daemon=True).start()


def _block_signals() -> None:
    """For the processes that this thread starts, from their first moment on: requests to stop are the main process's
    business, which then ends the pool."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def _leave_with_parent() -> None:
    """A parent that was killed cannot end its pool, and the pool's pipes, which all hold, never close."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _do(chunk: Chunk) -> Done:
    return _work.do(chunk)
