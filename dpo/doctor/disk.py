"""The disk at the output: room, speed, and what checkpoints and the run's lock need of a file system."""

import errno
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dpo.disk import explain
from dpo.doctor.finding import Finding, Job, fail, ok, warn

BLOCK, BLOCKS = 2**23, 32  # 256 MiB written at most
SECONDS = 5.0  # and no longer than this
LEAST_MB_PER_SECOND = 100.0  # a checkpoint of 7B weights, 84 GB, takes 14 minutes
LEAST_FILES = 10_000
PASSING = {"tmpfs": "memory", "ramfs": "memory", "overlay": "the container's own layer"}  # gone with job or container


def check_disk(job: Job) -> list[Finding]:
    places = [job.path, *([job.nvme_path] if job.nvme_path else [])]
    return [finding for place in places for finding in look(place, job.free_gb)]


def look(place: Path, free_gb: float) -> list[Finding]:
    """A folder that does not exist yet is looked at where it would be made."""
    place = place.absolute()
    folder = next(part for part in (place, *place.parents) if part.is_dir())
    try:
        with _own_folder(folder) as scratch:
            findings = [*_room(folder, free_gb), *_habits(scratch), *_kind(folder)]
            speed = write_speed(scratch / "speed")
    except OSError as error:
        return [fail(explain(error, folder), "another output_dir= (doctor.path=), room or rights there")]
    text = f"{place}: {shutil.disk_usage(folder).free / 1e9:.0f} GB free, writes {speed:.0f} MB/s"
    if speed < LEAST_MB_PER_SECOND:
        cure = (
            f"a local or parallel file system; 84 GB (7B weights) take {84e3 / speed / 60:.0f} minutes per checkpoint"
        )
        findings.append(warn(text, cure))
    return findings or [ok(text)]


@contextmanager
def _own_folder(folder: Path) -> Iterator[Path]:
    """Raises OSError when nothing can be made there; what was made goes, also after an error."""
    scratch = Path(tempfile.mkdtemp(prefix=".doctor-", dir=folder))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _room(folder: Path, free_gb: float) -> list[Finding]:
    free, stat = shutil.disk_usage(folder).free, os.statvfs(folder)
    findings = []
    if free < free_gb * 1e9:
        text = f"{folder}: {free / 1e9:.1f} GB free, {free_gb:g} expected (doctor.free_gb)"
        findings.append(fail(text, "make room: python -m dpo checkpoints prune <run folder>; or another output_dir="))
    if stat.f_files and stat.f_favail < LEAST_FILES:
        findings.append(fail(f"{folder}: room for {stat.f_favail} more files only (df -i)", "remove small files there"))
    return findings


def _habits(scratch: Path) -> list[Finding]:
    """Locks that other processes see, and renaming in one step."""
    file = scratch / "lock"
    with file.open("w") as held, file.open("w") as other:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            text = f"{scratch.parent}: no locks here ({error.strerror}): a second launch of a run would not be noticed"
            return [warn(text, "mount it with locks (Lustre: -o flock; NFS: without nolock)")]
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            return [warn(f"{scratch.parent}: locks are given to everyone", "mount it with locks (Lustre: -o flock)")]
    file.rename(scratch / "renamed")
    return []


def _kind(folder: Path) -> list[Finding]:
    kind = file_system(folder, Path("/proc/self/mounts").read_text())
    if kind not in PASSING:
        return []
    cure = "a mounted volume: docker run -v, a PersistentVolumeClaim, or a disk of the node (output_dir=)"
    return [warn(f"{folder} is on {kind}, {PASSING[kind]}: what a run leaves there goes with it", cure)]


def file_system(folder: Path, mounts: str) -> str:
    """The type of the file system that holds `folder`, from the lines of /proc/self/mounts."""
    lines = (line.split() for line in mounts.splitlines())
    points = [(words[1].replace("\\040", " "), words[2]) for words in lines]
    holding = [(point, kind) for point, kind in points if folder.resolve().is_relative_to(point)]
    return max(enumerate(holding), key=lambda item: (len(item[1][0]), item[0]))[1][1] if holding else ""


def write_speed(file: Path) -> float:
    """MB/s of one stream down to the disk, of bytes that no file system compresses. Raises OSError."""
    block = os.urandom(BLOCK)
    written, began = 0, time.monotonic()
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        for _ in range(BLOCKS):
            if os.write(descriptor, block) < BLOCK:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fdatasync(descriptor)
            written += BLOCK
            if time.monotonic() - began > SECONDS:
                break
    finally:
        os.close(descriptor)
    return written / 1e6 / max(1e-6, time.monotonic() - began)
