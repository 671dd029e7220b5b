"""Shared memory and what `ulimit` shows: both are small by default, and a run notices late."""

import os
import resource
from pathlib import Path

from dpo.doctor.finding import Finding, Job, fail, ok, warn

GIB = 2**30
SHM = Path("/dev/shm")

LEAST_SHM_GIB = 1.0  # Docker gives 0.06, in which NCCL's and gloo's buffers between local workers do not fit
LEAST_FILES = 4096  # open at once: sockets to every other worker, shards of weights and data
LEAST_PROCESSES = 4096  # threads count


def check_shm(job: Job) -> list[Finding]:
    return shared_memory(SHM)


def shared_memory(folder: Path) -> list[Finding]:
    cure = "docker run --shm-size=16g (or --ipc=host); Kubernetes: an emptyDir with medium: Memory; else mount -o "
    cure += f"remount,size=50% {folder}"
    try:
        stat = os.statvfs(folder)
    except OSError as error:
        return [fail(f"{folder}: {error.strerror}", cure)]
    size, free = (blocks * stat.f_frsize / GIB for blocks in (stat.f_blocks, stat.f_bavail))
    if size < LEAST_SHM_GIB:
        return [
            fail(f"{folder} has {size:.2f} GiB, local workers exchange through it: at least {LEAST_SHM_GIB:g}", cure)
        ]
    if free < LEAST_SHM_GIB:
        text = f"{folder}: {free:.2f} of {size:.1f} GiB free, files of ended jobs may lie there"
        return [fail(text, f"ls -l {folder}, and remove what no process uses (fuser)")]
    return [ok(f"{folder}: {free:.1f} of {size:.1f} GiB free")]


def check_limits(job: Job) -> list[Finding]:
    """What `ulimit` shows."""
    findings = [*_counts(), *_locked(job, Path("/dev/infiniband").exists()), *_sizes()]
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    locked, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return findings or [ok(f"{files} open files, locked memory {_size(locked)}")]


def _counts() -> list[Finding]:
    findings = []
    for limit, name, flag, least in (
        (resource.RLIMIT_NOFILE, "open files", "-n", LEAST_FILES),
        (resource.RLIMIT_NPROC, "processes", "-u", LEAST_PROCESSES),
    ):
        soft, hard = resource.getrlimit(limit)
        if 0 <= soft < least:
            how = "limits.conf" if 0 <= hard < least else f"ulimit {flag} {least} in the job script"
            findings.append(warn(f"{name}: at most {soft}, many workers need {least}", f"{how}; docker run --ulimit"))
    return findings


def _locked(job: Job, infiniband: bool) -> list[Finding]:
    """InfiniBand registers its buffers under this limit, DeepSpeed those of an SSD; what CUDA pins does not count."""
    locked, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if locked == resource.RLIM_INFINITY or not (infiniband or job.nvme_path):
        return []
    text = f"locked memory: at most {_size(locked)}, and {'InfiniBand' if infiniband else 'zero.nvme_path'} locks more"
    cure = "limits.conf; Slurm: PropagateResourceLimitsExcept=MEMLOCK; docker run --ulimit memlock=-1"
    return [fail(text, cure) if infiniband else warn(text, cure)]


def _sizes() -> list[Finding]:
    findings = []
    for limit, name, flag in (
        (resource.RLIMIT_FSIZE, "size of a file", "-f"),
        (resource.RLIMIT_AS, "address space", "-v"),
        (resource.RLIMIT_DATA, "data segment", "-d"),
    ):
        soft, _ = resource.getrlimit(limit)
        if soft != resource.RLIM_INFINITY:
            text = f"{name}: limited to {soft / GIB:.1f} GiB, weights and CUDA's address space are larger"
            findings.append(warn(text, f"ulimit {flag} unlimited in the job script"))
    return findings


def _size(limit: int) -> str:
    return "unlimited" if limit == resource.RLIM_INFINITY else f"{limit / 2**20:.0f} MiB"
