"""Peak memory of this process."""

import resource

import torch

GIB = 2**30


def peak_gib(device: torch.device) -> float:
    """Most memory held so far, GiB: on a GPU of its allocator, on a CPU of the process (resident)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB  # Linux counts KiB
