"""A real Slurm of two nodes on this machine, in namespaces of its own: several may run at once, and nothing of one is
left when the process that started it ends, however it ends."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from launch import ROOT, environment

FILES = Path(__file__).parent / "slurm"
HELD = f"{FILES / 'held'}:{ROOT}"  # a PYTHONPATH, see there
NAMESPACES = ("--mount", "--net", "--uts", "--ipc", "--pid")
NODES = 2
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "ip", "unshare", "nsenter")
LIMIT_SECONDS = 400  # for anything that is waited for, on a machine that is busy tenfold
OVER = ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "OUT_OF_MEMORY")


def missing() -> str | None:
    """Why there can be no cluster here; None: there can."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    if absent := [program for program in PROGRAMS if shutil.which(program, path=path) is None]:
        return f"no {', '.join(absent)} here (Debian: apt-get install slurm-wlm munge iproute2)"
    if os.geteuid() != 0:
        return "needs root, for namespaces and network devices"
    own = ["unshare", *NAMESPACES, "--fork", "--mount-proc", "ip", "link", "add", "probe", "type", "bridge"]
    tried = subprocess.run(own, capture_output=True, text=True, timeout=60)
    return f"no namespaces with a network of their own: {tried.stderr.strip()}" if tried.returncode else None


@dataclass(kw_only=True, slots=True)
class Cluster:
    """Nodes n1 and n2, and the desk from which jobs are submitted."""

    folder: Path
    pid: int  # of the first process of its namespaces

    def run(self, *command: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        """A command at the desk."""
        inside = ["nsenter", f"--target={self.pid}", "--mount", "--net", "--uts", "--ipc", "--pid"]
        there = ["env", f"--chdir={cwd or self.folder}"]
        own = {name: value for name, value in environment(**variables).items() if not name.startswith("SLURM_")}
        own |= {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": f"{own['PATH']}:/usr/sbin:/sbin"}
        return subprocess.run(
            [*inside, *there, *command], env=own, capture_output=True, text=True, timeout=LIMIT_SECONDS
        )

    def must(self, *command: str, cwd: Path | None = None, **variables: str) -> str:
        """The output of a command that ends well."""
        done = self.run(*command, cwd=cwd, **variables)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout

    def submit(self, *arguments: str, cwd: Path, **variables: str) -> list[str]:
        """The numbers of what launch/submit.py puts into the queue."""
        output = self.must(sys.executable, str(ROOT / "launch" / "submit.py"), *arguments, cwd=cwd, **variables)
        return output.splitlines()[0].rpartition("=")[2].split(",")

    def sbatch(self, *arguments: str, cwd: Path, **variables: str) -> str:
        """The number of the new job."""
        return self.must("sbatch", "--parsable", *arguments, cwd=cwd, **variables).strip().partition(";")[0]

    def job(self, number: str) -> dict[str, str]:
        """What Slurm knows of it: JobState, ExitCode, Restarts and so on."""
        words = self.must("scontrol", "--oneliner", "show", "job", number).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def ended(self, number: str) -> dict[str, str]:
        """The same, once it is over."""
        return self.until(number, lambda job: job["JobState"] in OVER)

    def until(self, number: str, found: Callable[[dict[str, str]], bool]) -> dict[str, str]:
        """What Slurm knows of a job once `found` is true of it."""
        end = time.monotonic() + LIMIT_SECONDS
        while time.monotonic() < end:
            if found(job := self.job(number)):
                return job
            assert job["JobState"] not in OVER, f"job {number} is over: {job}"
            time.sleep(0.2)
        raise AssertionError(f"waited {LIMIT_SECONDS} s for job {number}: {self.job(number)}")


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Up and idle; gone afterwards."""
    for name in ("slurm.conf", "gres.conf"):
        (folder / name).write_text((FILES / name).read_text().replace("FOLDER", str(folder)))
    process = subprocess.Popen(
        [
            "unshare",
            *NAMESPACES,
            "--fork",
            "--kill-child",
            "--mount-proc",
            "bash",
            str(FILES / "cluster.sh"),
            str(folder),
        ],
        stdin=subprocess.PIPE,  # closed when this process ends: then the cluster does
        stdout=subprocess.DEVNULL,
        stderr=(folder / "cluster.log").open("w"),
        start_new_session=True,  # Ctrl-C is for the tests
        env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
    )
    try:
        yield _once_idle(folder, process)
    finally:
        process.kill()  # the first process in the namespaces goes with it, and with that one all others
        process.wait()


def _once_idle(folder: Path, process: subprocess.Popen[bytes]) -> Cluster:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    end = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < end and process.poll() is None:
        if children.read_text() and (folder / "run" / f"n{NODES}").exists():
            found = Cluster(folder=folder, pid=int(children.read_text()))
            idle = found.run("sinfo", "--noheader", "--Node", "--states=idle", "--format=%N").stdout.split()
            if len(set(idle)) == NODES:  # a line per partition
                return found
        time.sleep(0.05)
    raise AssertionError(f"no cluster: {(folder / 'cluster.log').read_text()}")
