"""Jobs on a real Slurm of two nodes, which the tests start. All are submitted at once, as their waiting overlaps."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from resumed import numbers
from slurm_cluster import HELD, LIMIT_SECONDS, Cluster, missing

from launch import ROOT, TWENTY, read_rows

pytestmark = [
    pytest.mark.run,
    pytest.mark.xdist_group("slurm"),  # one cluster for all
    pytest.mark.skipif(missing() is not None, reason=f"Slurm: {missing()}"),
]

TRAIN = str(ROOT / "launch" / "slurm" / "train.sbatch")
CPU = ("launch=cpu", "launch.workers_per_node=1")
JOBS = ("undisturbed", "limited", "failing", "reference", "sweep")


@pytest.fixture(scope="module")
def jobs(slurm: Cluster, desk: Path) -> dict[str, str]:
    """Numbers of the jobs."""
    two = (*TWENTY, "zero=zero3")
    (desk / "bad.jsonl").write_text('{"prompt": "a", "chosen": "b"}\n')
    hurried = ("--nodes=2", "--time=60", "--signal=B:USR1@600", "--output=limited.log")
    limited = slurm.sbatch(*hurried, TRAIN, *two, "name=limited", cwd=desk, NPROC="1", PYTHONPATH=HELD)
    (undisturbed,) = slurm.submit(*CPU, "launch.nodes=2", *two, "name=undisturbed", cwd=desk)
    own = [setting for setting in TWENTY if not setting.startswith("data.demo")]
    failing = slurm.sbatch("--output=failing.log", TRAIN, *own, "data.path=bad.jsonl", "name=bad", cwd=desk, NPROC="1")
    short = [setting for setting in TWENTY if not setting.startswith(("loss.beta", "optim.max_steps"))]
    reference, sweep = slurm.submit(
        "sweep", *CPU, *short, "optim.max_steps=3", "loss.beta=0.1,0.5", "output_dir=swept", cwd=desk
    )
    return dict(zip(JOBS, (undisturbed, limited, failing, reference, sweep), strict=True))


def log_of(desk: Path, name: str) -> str:
    return (desk / name).read_text()


def test_a_job_whose_time_is_up_continues_to_the_same_weights(slurm: Cluster, desk: Path, jobs: dict[str, str]) -> None:
    number, found, expected = jobs["limited"], desk / "limited", desk / "undisturbed"
    slurm.until(number, lambda job: any(row["step"] == 2 for row in read_rows(found / "metrics.jsonl")))
    limit(slurm, number, minutes=10)  # the notice of 600 s is due: Slurm gives it when it looks next, every 30 s
    slurm.until(number, lambda job: job["Restarts"] == "1")
    limit(slurm, number, minutes=60)
    job = slurm.ended(number)
    text = log_of(desk, "limited.log")
    assert (job["JobState"], job["ExitCode"], job["Restarts"]) == ("COMPLETED", "0:0", "1"), text
    assert "limited: stopped after step 2 of 20: received SIGUSR1" in text
    assert "resume: continuing from limited/checkpoints/step-00000002" in text
    assert slurm.ended(jobs["undisturbed"])["JobState"] == "COMPLETED"
    assert numbers(found / "metrics.jsonl") == numbers(expected / "metrics.jsonl")
    files = [path.relative_to(expected) for path in expected.glob("checkpoints/step-00000020/*.safetensors")]
    assert len(files) >= 2
    for file in (Path("final/model.safetensors"), *files):
        assert (found / file).read_bytes() == (expected / file).read_bytes(), file


def limit(slurm: Cluster, number: str, minutes: int) -> None:
    """Give a job another end; only root may give it more time."""
    slurm.must("scontrol", "update", f"JobId={number}", f"TimeLimit={minutes}")


def test_a_failing_job_leaves_its_exit_code_and_says_why_in_the_last_line(
    slurm: Cluster, desk: Path, jobs: dict[str, str]
) -> None:
    job = slurm.ended(jobs["failing"])
    assert (job["JobState"], job["ExitCode"], job["Restarts"]) == ("FAILED", "1:0", "0")
    last = log_of(desk, "failing.log").splitlines()[-1]
    assert last.startswith("[slurm] failed with exit code 1: bad: failed after step 0: ")


def test_two_nodes_train_to_the_end(slurm: Cluster, desk: Path, jobs: dict[str, str]) -> None:
    job = slurm.ended(jobs["undisturbed"])
    (log,) = (desk / "slurm_logs").glob("undisturbed-*.log")
    text = log.read_text()
    assert (job["JobState"], job["ExitCode"], job["NodeList"]) == ("COMPLETED", "0:0", "n[1-2]"), text
    assert "workers: 2 on cpu" in text
    assert text.splitlines()[-1] == "[slurm] undisturbed: done, step 20 of 20"


def test_a_sweep_computes_its_reference_once(slurm: Cluster, desk: Path, jobs: dict[str, str]) -> None:
    ended = [slurm.ended(number) for number in (jobs["reference"], f"{jobs['sweep']}_0", f"{jobs['sweep']}_1")]
    assert [(job["JobState"], job["ExitCode"]) for job in ended] == [("COMPLETED", "0:0")] * 3
    logs = [(desk / "swept" / "slurm_logs" / Path(job["StdOut"]).name).read_text() for job in ended]
    said = [re.search(r"reference: ([\d,]+) of ([\d,]+) responses found", log) for log in logs]
    computed, *found = [match.groups() for match in said if match]
    assert computed[0] == "0" and found == [(computed[1], computed[1])] * 2
    assert [log.splitlines()[-1] for log in logs[1:]] == [
        f"[slurm] swept/sweep-beta{beta}: done, step 3 of 3" for beta in ("0.1", "0.5")
    ]


OWNER = """
import sys, time
from pathlib import Path
from slurm_cluster import cluster
with cluster(Path(sys.argv[1])) as found:
    sys.stdout.write(f"{found.pid}\\n")
    sys.stdout.flush()
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_of_a_cluster_whose_owner_ends(number: signal.Signals, tmp_path: Path) -> None:
    """Tests are interrupted, and killed."""
    here = os.pathsep.join([str(Path(__file__).parent), str(ROOT)])
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": here},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert owner.stdout is not None
    namespace = os.stat(f"/proc/{int(owner.stdout.readline())}/ns/pid").st_ino
    owner.send_signal(number)
    owner.wait()
    end = time.monotonic() + LIMIT_SECONDS
    while (left := _inside(namespace)) and time.monotonic() < end:
        time.sleep(0.05)
    assert left == []


def _inside(namespace: int) -> list[str]:
    """Processes of a PID namespace."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            if (process / "ns" / "pid").stat().st_ino == namespace:
                found.append((process / "comm").read_text().strip())
    return found
