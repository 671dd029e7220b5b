"""Memory of a worker: what it holds after its imports, and its peak since."""

import ctypes
import gc
from pathlib import Path

import torch

GIB = 2**30


def resident_gib(field: str) -> float:
    """A line of /proc/self/status: VmRSS is held now, VmHWM was held at most. ru_maxrss would count the process that
    started this one."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024 / GIB
    raise OSError(f"/proc/self/status has no {field}")


def start_peak() -> float:
    """Forget the peak so far, give back what was freed; GiB held now (0 on a GPU, whose allocator knows no imports)."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return 0.0
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM (proc(5))
    return resident_gib("VmRSS")


def peak_gib() -> float:
    """Most memory held since `start_peak`: resident, or of the GPU's allocator."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / GIB
    return resident_gib("VmHWM")
