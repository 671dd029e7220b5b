"""Memory and processors that the system, Slurm or a container gives this process."""

import os
from pathlib import Path

from dpo.doctor.cgroups import CGROUPS, PROC, tightest, usable_cores
from dpo.doctor.finding import Finding, Job, fail, ok, warn

GIB = 2**30

LEAST_MEMORY_GIB = 4.0  # what the imports of two workers and a tiny model take
LOW_MEMORY_GIB = 8.0
CORES_PER_GPU = 2  # the worker, and the thread that writes checkpoints or feeds it


def check_memory(job: Job) -> list[Finding]:
    return memory(PROC, CGROUPS)


def memory(proc: Path, cgroups: Path) -> list[Finding]:
    """What is left of the machine's memory and of the cgroup's limit, whichever is less."""
    lines = dict(line.split(":", 1) for line in (proc / "meminfo").read_text().splitlines() if ":" in line)
    total, free = (int(lines[name].split()[0]) * 1024 / GIB for name in ("MemTotal", "MemAvailable"))
    text = f"{free:.1f} of {total:.1f} GiB available"
    if limit := tightest(proc, cgroups):
        size, used = limit
        free = min(free, (size - used) / GIB)
        text += f", the container's or job's limit is {size / GIB:.1f} GiB with {used / GIB:.1f} in use"
    if free < LEAST_MEMORY_GIB:
        return [fail(f"{text}: under {LEAST_MEMORY_GIB:g}", "Slurm: --mem; docker run --memory; or end what fills it")]
    if free < LOW_MEMORY_GIB:
        cure = "Slurm: --mem=0 for all of the node; docker run --memory; python -m dpo plan says what a run takes"
        return [warn(f"{text}: weights pass through it when they are loaded and saved", cure)]
    return [ok(text)]


def check_cpus(job: Job) -> list[Finding]:
    """Processors that this process may use: a job script that forgets --cpus-per-task gets one."""
    cores, gpus = usable_cores(PROC, CGROUPS), job.gpus or 0
    least = max(2, CORES_PER_GPU * gpus)
    text = f"{cores:g} of {os.cpu_count()} cores may be used"
    if cores < least:
        what = f" for {gpus} GPUs" if gpus else ""
        return [
            warn(f"{text}{what}: at least {least}", "Slurm: --cpus-per-task; docker run --cpus; Kubernetes: limits")
        ]
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdigit() and int(threads) > cores:
        return [warn(f"{text}, OMP_NUM_THREADS={threads}", f"export OMP_NUM_THREADS={max(1, int(cores))} or less")]
    return [ok(text)]
