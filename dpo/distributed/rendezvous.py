"""The key-value store through which the workers of a job find each other. Torchrun's agent hosts it, else rank 0."""

import os
import secrets
import time
from datetime import timedelta

import torch.distributed as dist

from dpo.distributed import launcher
from dpo.errors import EnvironmentProblem

POLL_SECONDS = 0.02


def job_store(start: str, timeout: timedelta) -> dist.Store:
    """A connection of its own, under keys of this `start` of the workers.

    Raises RuntimeError when nobody answers at MASTER_ADDR:MASTER_PORT, KeyError where these are not set.
    """
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(address, port, is_master=False, timeout=timeout, wait_for_workers=False)
    return dist.PrefixStore(f"dpo/{start}", store)


def join_restartable(backend: str, timeout: timedelta) -> str:
    """Where torchrun may start workers again (--max_restarts), join their process group under keys of this start alone;
    accelerate and DeepSpeed take over a group that they find. Returns a name for the start, "first" where there is one.

    Torchrun's store outlives its workers, and a worker that is started again finds the addresses of killed ones in it:
    "connectFullMesh failed ... Connection refused", seen with torch 2.13 and gloo. The restart count
    is no name: each node's agent counts its own (github.com/pytorch/pytorch/issues/135712).
    """
    if not launcher.may_restart():
        return "first"
    rank, size = launcher.rank(), launcher.world_size()
    start = agree_on_start(job_store("starts", timeout), rank, size, timeout)
    dist.init_process_group(backend, store=job_store(start, timeout), rank=rank, world_size=size, timeout=timeout)
    return start


def agree_on_start(store: dist.Store, rank: int, size: int, timeout: timedelta) -> str:
    """A name that workers of earlier starts have not seen, although what those wrote is still in the store.

    Each worker says hello with a random word; rank 0 answers each with its own word and the one that it heard, until
    all have found theirs in the answer. The name is rank 0's word.

    Raises:
        EnvironmentProblem: some worker has not come within `timeout`.
    """
    own, end = secrets.token_hex(8), time.monotonic() + timeout.total_seconds()
    store.set(f"hello/{rank}", own)
    absent = set(range(1, size)) if rank == 0 else {rank}
    while absent:
        if time.monotonic() > end:
            raise EnvironmentProblem(
                f"workers {sorted(absent)[:8]} have not joined within {timeout.total_seconds():g} s"
            )
        if rank == 0:
            absent = {other for other in absent if not _answer(store, own, other)}
        elif store.check([f"answer/{rank}"]):
            start, _, heard = store.get(f"answer/{rank}").decode().partition(" ")
            if heard == own:
                store.set(f"joined/{start}/{rank}", "")
                return start
        time.sleep(POLL_SECONDS)
    return own


def _answer(store: dist.Store, start: str, other: int) -> bool:
    """True once `other` has joined."""
    if store.check([f"hello/{other}"]):
        store.set(f"answer/{other}", f"{start} {store.get(f'hello/{other}').decode()}")
    return store.check([f"joined/{start}/{other}"])
