"""Memory of this process: its peak, and giving back what was freed."""

import ctypes
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import torch

GIB = 2**30


def peak_gib(device: torch.device) -> float:
    """Most memory held so far, GiB: on a GPU of its allocator, on a CPU of the process (resident)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB  # Linux counts KiB


# glibc's mallopt parameters (malloc.h).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


@contextmanager
def freed_memory_returned() -> Iterator[None]:
    """Inside, blocks of 1 MiB and more go back to the system as soon as they are freed.

    glibc raises that limit to 32 MiB by itself, and what it keeps then is too scattered to be used again: two workers
    that loaded 586 MB, tensor by tensor, peaked at 815 MB for a half each; with the limit, at 366 MB. Afterwards the
    limit is where glibc would have put it, since training on a CPU allocates the same sizes over and over.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # none in another C library
    if mallopt is None:
        yield
        return
    mallopt(M_MMAP_THRESHOLD, 2**20)
    try:
        yield
    finally:
        mallopt(M_MMAP_THRESHOLD, 2**25)
        mallopt(M_TRIM_THRESHOLD, 2**26)
