"""The limits of the control groups around this process: version 2 and version 1 of the kernel's."""

import os
from pathlib import Path

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


def tightest(proc: Path, cgroups: Path) -> tuple[int, int] | None:
    """(limit, in use), bytes, of the smallest limit from this process's own group upwards; caches do not count."""
    found = []
    for folder, names in groups(proc, cgroups, "memory"):
        limit, used = (_number(folder / name) for name in names)
        if limit is not None and used is not None and limit < 2**60:  # version 1 writes 2**63 less a page for none
            cache = _number_in(folder / "memory.stat", ("inactive_file", "total_inactive_file"))
            found.append((limit, max(0, used - cache)))
    return min(found, default=None)


def usable_cores(proc: Path, cgroups: Path) -> float:
    """The affinity, or less where the cgroup has a quota."""
    cores = float(len(os.sched_getaffinity(0)))
    for folder, _ in groups(proc, cgroups, "cpu"):
        try:
            quota, period = (folder / "cpu.max").read_text().split()
        except (OSError, ValueError):
            quota, period = str(_number(folder / "cpu.cfs_quota_us")), str(_number(folder / "cpu.cfs_period_us"))
        if quota.isdigit() and period.isdigit():
            cores = min(cores, int(quota) / int(period))
    return cores


def groups(proc: Path, cgroups: Path, controller: str) -> list[tuple[Path, tuple[str, str]]]:
    """This process's group and those around it, with the names of (limit, use): version 2 and 1 of the kernel's."""
    found = []
    for line in (proc / "self" / "cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, names = cgroups, ("memory.max", "memory.current")
        elif controller in controllers.split(","):
            root, names = cgroups / controllers, ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        folder = root / path.lstrip("/")
        # In a container the path is the host's and does not exist here: then the group is the root itself.
        found += [(part, names) for part in (folder, *folder.parents) if part.is_relative_to(root) and part.is_dir()]
    return found


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _number_in(path: Path, names: tuple[str, ...]) -> int:
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return 0
    return max((int(words[1]) for words in lines if len(words) == 2 and words[0] in names), default=0)
