"""What the doctor says of a node that lacks something: disks, memory, limits, compiler and versions that really do."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from doctor_node import mounted, one

from dpo.config.schema import RunConfig
from dpo.doctor import cgroups, disk, limits, memory
from dpo.doctor.finding import Job

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
JOB = Job(path=Path())


# Disks


def test_a_full_disk(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=4m", "none") as folder:
        finding = one(disk.look(folder / "outputs", 0.0), "fail")
    assert "No space left on device" in finding.text and "output_dir=" in finding.cure


def test_a_read_only_disk(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "ro", "none") as folder:
        assert "Read-only file system" in one(disk.look(folder, 0.0), "fail").text


def test_a_disk_that_goes_with_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "write_speed", lambda file: 1000.0)
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=1g", "none") as folder:
        assert "on tmpfs, memory" in one(disk.look(folder, 0.0), "warn").text


def test_too_little_room_and_a_slow_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "PASSING", {})
    monkeypatch.setattr(disk, "write_speed", lambda file: 10.0)
    room, slow = disk.look(tmp_path, 1e9)
    assert room.level == "fail" and "1e+09 expected (doctor.free_gb)" in room.text
    assert slow.level == "warn" and "writes 10 MB/s" in slow.text and "140 minutes" in slow.cure


def test_a_good_disk_and_nothing_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "PASSING", {})
    monkeypatch.setattr(disk, "LEAST_MB_PER_SECOND", 0.0)
    assert "GB free, writes" in one(disk.look(tmp_path / "not" / "yet", 0.0), "ok").text
    assert list(tmp_path.iterdir()) == []


def test_errors_of_a_disk_are_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stale(file: Path) -> float:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(disk, "write_speed", stale)
    assert "still mounted" in one(disk.look(tmp_path, 0.0), "fail").text
    assert list(tmp_path.iterdir()) == []


def test_the_file_system_of_a_folder() -> None:
    mounts = "/dev/sda / ext4 rw 0 0\nnone /mnt tmpfs rw 0 0\nnas:/x /mnt/my\\040data nfs4 rw 0 0\n"
    assert disk.file_system(Path("/home/me"), mounts) == "ext4"
    assert disk.file_system(Path("/mnt/my data/outputs"), mounts) == "nfs4"
    assert disk.file_system(Path("/mnt2"), mounts) == "ext4"


# Shared memory, limits, memory, processors


def test_dockers_shared_memory(tmp_path: Path) -> None:
    with mounted(tmp_path / "shm", "-t", "tmpfs", "-o", "size=64m", "none") as folder:
        finding = one(limits.shared_memory(folder), "fail")
    assert "0.06 GiB" in finding.text and "--shm-size" in finding.cure
    assert "No such file" in one(limits.shared_memory(tmp_path / "none"), "fail").text


def test_shared_memory_full_of_what_ended_jobs_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LEAST_SHM_GIB", 8 / 1024)
    with mounted(tmp_path / "shm", "-t", "tmpfs", "-o", "size=16m", "none") as folder:
        (folder / "left").write_bytes(bytes(12 * 2**20))
        assert "files of ended jobs" in one(limits.shared_memory(folder), "fail").text


LIMITED = """
import resource, sys
from pathlib import Path
from dpo.doctor.finding import Job
from dpo.doctor.limits import check_limits
resource.setrlimit(getattr(resource, sys.argv[1]), (int(sys.argv[2]), int(sys.argv[2])))
for finding in check_limits(Job(path=Path(), nvme_path=Path())):
    print(finding.level, finding.text, "->", finding.cure)
"""


@pytest.mark.parametrize(
    ("limit", "value", "line"),
    [
        ("RLIMIT_NOFILE", 1024, "warn open files: at most 1024"),
        ("RLIMIT_MEMLOCK", 8 * 2**20, "warn locked memory: at most 8 MiB, and zero.nvme_path"),
        ("RLIMIT_FSIZE", 2**30, "warn size of a file: limited to 1.0 GiB"),
        ("RLIMIT_AS", 32 * 2**30, "warn address space: limited to 32.0 GiB"),
    ],
)
def test_limits_of_a_shell(limit: str, value: int, line: str) -> None:
    _, hard = resource.getrlimit(getattr(resource, limit))
    if hard != resource.RLIM_INFINITY and hard < value:
        pytest.skip(f"{limit} is {hard} here already")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", LIMITED, limit, str(value)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    assert line in said


@pytest.mark.parametrize(
    ("infiniband", "nvme", "level"), [(True, None, ["fail"]), (False, "/ssd", ["warn"]), (False, None, [])]
)
def test_locked_memory(infiniband: bool, nvme: str | None, level: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda limit: (64 * 2**10, 64 * 2**10))
    job = Job(path=Path(), nvme_path=Path(nvme) if nvme else None)
    assert [finding.level for finding in limits._locked(job, infiniband)] == level


def node(folder: Path, *, available_gib: float = 100, group: str = "0::/job\n") -> tuple[Path, Path]:
    """Folders as /proc and /sys/fs/cgroup are."""
    proc, groups = folder / "proc", folder / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "self" / "cgroup").write_text(group)
    kib = [int(gib * 2**20) for gib in (128, available_gib)]
    (proc / "meminfo").write_text(f"MemTotal: {kib[0]} kB\nMemFree: 1 kB\nMemAvailable: {kib[1]} kB\n")
    return proc, groups


def test_memory_of_the_machine(tmp_path: Path) -> None:
    assert "100.0 of 128.0 GiB available" in one(memory.memory(*node(tmp_path / "a")), "ok").text
    one(memory.memory(*node(tmp_path / "b", available_gib=7)), "warn")
    one(memory.memory(*node(tmp_path / "c", available_gib=1)), "fail")


@pytest.mark.parametrize(
    ("group", "files"),
    [
        (
            "0::/slurm/job_1/step\n",
            {"slurm/job_1/memory.max": 20, "slurm/job_1/memory.current": 18, "memory.max": None},
        ),
        (
            "9:name=systemd:/\n4:cpu,memory:/docker/abc\n",  # the host's path, which a container lacks
            {"cpu,memory/memory.limit_in_bytes": 20, "cpu,memory/memory.usage_in_bytes": 18},
        ),
    ],
)
def test_memory_of_a_group(group: str, files: dict[str, int | None], tmp_path: Path) -> None:
    proc, groups = node(tmp_path, group=group)
    for name, gib in files.items():
        (groups / name).parent.mkdir(parents=True, exist_ok=True)
        (groups / name).write_text("max\n" if gib is None else f"{gib * 2**30}\n")
    (groups / "slurm/job_1/step").mkdir(parents=True, exist_ok=True)
    finding = one(memory.memory(proc, groups), "fail")
    assert "limit is 20.0 GiB with 18.0 in use" in finding.text and "--mem" in finding.cure
    for stats in ("slurm/job_1/memory.stat", "cpu,memory/memory.stat"):
        (groups / stats).parent.mkdir(parents=True, exist_ok=True)
        (groups / stats).write_text(f"anon 1\ninactive_file {17 * 2**30}\n")
    assert "with 1.0 in use" in one(memory.memory(proc, groups), "ok").text, "caches give way"


def test_processors_of_a_group(tmp_path: Path) -> None:
    proc, groups = node(tmp_path)
    cores = len(os.sched_getaffinity(0))
    assert cgroups.usable_cores(proc, groups) == cores
    (groups / "job").mkdir(parents=True)
    (groups / "job" / "cpu.max").write_text("max 100000\n")
    assert cgroups.usable_cores(proc, groups) == cores
    (groups / "job" / "cpu.max").write_text("50000 100000\n")
    assert cgroups.usable_cores(proc, groups) == 0.5


def test_one_processor_and_too_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4096")
    monkeypatch.setattr(memory, "usable_cores", lambda proc, groups: 8.0)
    assert "OMP_NUM_THREADS=4096" in one(memory.check_cpus(JOB), "warn").text
    monkeypatch.setattr(memory, "usable_cores", lambda proc, groups: 1.0)
    assert "--cpus-per-task" in one(memory.check_cpus(Job(path=Path(), gpus=8)), "warn").cure


def test_what_a_run_asks_of_its_node(monkeypatch: pytest.MonkeyPatch) -> None:
    from dpo.config.compose import compose_run
    from dpo.run_doctor import _job

    monkeypatch.delenv("WANDB_MODE", raising=False)
    settings = ["model=qwen7b", "zero=zero3_nvme", "zero.nvme_path=/mnt/ssd", "track.wandb=online", "output_dir=/out"]
    config: RunConfig = compose_run([*settings, "doctor.gpus=8"], 8).config
    job = _job(config)
    assert job.offload and job.nvme_path == Path("/mnt/ssd") and job.path == Path("/out")
    assert job.models == ["Qwen/Qwen2.5-7B-Instruct"] and job.gpus == 8 and job.wandb == "online"
    assert job.data == ["HuggingFaceH4/ultrafeedback_binarized"]
