"""Memory that a worker may come to hold on this machine."""

from pathlib import Path

import torch

GIB = 2**30
UNLIMITED = 2**60
GROUPS = Path("/sys/fs/cgroup")


def available_gib(device: torch.device, workers_here: int) -> float:
    """For one of `workers_here` workers of this machine, GiB: all of its GPU, or its share of what the host has to give
    away (swap included) within the limits of its control group."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / GIB
    told = _told(Path("/proc/meminfo"))
    swap = told.get("SwapFree", 0)
    free = told.get("MemAvailable", UNLIMITED) + swap
    return min([free, *group_limits(Path("/proc/self/cgroup"), GROUPS, swap)]) / workers_here / GIB


def group_limits(membership: Path, groups: Path, swap: int) -> list[int]:
    """Bytes, of every control group that a container or a scheduler has put this process in (version 2 and 1), down
    from the root: Slurm limits a job in a group of its own. What a group holds already may be its own page cache, so it
    is not subtracted; where it may swap, `swap` bytes come on top.

    Args:
        membership: /proc/self/cgroup, lines of `number:controllers:/path`; in a container the path may be the host's.
        groups: /sys/fs/cgroup.
    """
    lines = membership.read_text().splitlines() if membership.is_file() else []
    limits = []
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if not controllers:
            limits += [_limit(folder, "memory.max", "memory.swap.max", swap) for folder in _down(groups, path)]
        elif "memory" in controllers.split(","):
            folders = _down(groups / "memory", path)
            limits += [_limit(folder, "memory.limit_in_bytes", None, swap) for folder in folders]
    return limits


def _down(root: Path, path: str) -> list[Path]:
    parts = [part for part in path.split("/") if part and part != ".."]
    return [root.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)]


def _limit(folder: Path, name: str, swap_name: str | None, swap: int) -> int:
    own = _number(folder / name)
    return own + min(swap, _number(folder / swap_name) if swap_name else swap)


def _number(file: Path) -> int:
    """`max`, or no such file: no limit."""
    text = file.read_text().strip() if file.is_file() else ""
    return int(text) if text.isdigit() else UNLIMITED


def _told(file: Path) -> dict[str, int]:
    """Bytes of /proc/meminfo; empty on a system without it."""
    lines = file.read_text().splitlines() if file.is_file() else []
    return {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}
