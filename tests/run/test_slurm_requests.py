"""Who else ends a job: a job of higher priority, a person, a node that fails."""

import json
from pathlib import Path

import pytest
from slurm_cluster import HELD, Cluster, missing

from launch import ROOT, TWENTY, read_rows

pytestmark = [
    pytest.mark.run,
    pytest.mark.slow,
    pytest.mark.xdist_group("slurm"),
    pytest.mark.skipif(missing() is not None, reason=f"Slurm: {missing()}"),
]

TRAIN = str(ROOT / "launch" / "slurm" / "train.sbatch")
SWEEP = str(ROOT / "launch" / "slurm" / "sweep.sbatch")


def held(slurm: Cluster, desk: Path, name: str, *options: str, **variables: str) -> str:
    """A job that waits in the middle of training, see tests/run/slurm/held."""
    given = (*options, f"--output={name}.log", TRAIN, *TWENTY, "zero=off", f"name={name}")
    number = slurm.sbatch(*given, cwd=desk, NPROC="1", PYTHONPATH=HELD, **variables)
    slurm.until(number, lambda job: at_step_2(desk / name))
    return number


def at_step_2(folder: Path) -> bool:
    return any(row["step"] == 2 for row in read_rows(folder / "metrics.jsonl"))


def last_line(desk: Path, name: str) -> str:
    return (desk / f"{name}.log").read_text().splitlines()[-1]


def test_a_preempted_job_leaves_room_and_continues(slurm: Cluster, desk: Path) -> None:
    number = held(slurm, desk, "preempted", "--partition=spare", "--exclusive", "--nodelist=n2")
    urgent = slurm.sbatch("--exclusive", "--nodelist=n2", "--wrap=true", cwd=desk)
    assert slurm.ended(urgent)["JobState"] == "COMPLETED"
    job = slurm.ended(number)
    text = (desk / "preempted.log").read_text()
    assert (job["JobState"], job["Restarts"]) == ("COMPLETED", "1"), text
    assert "preempted: stopped after step 2 of 20: received SIGTERM" in text
    assert last_line(desk, "preempted") == "[slurm] preempted: done, step 20 of 20"


def test_a_cancelled_job_has_its_checkpoint_and_is_not_requeued(slurm: Cluster, desk: Path) -> None:
    number = held(slurm, desk, "cancelled")
    slurm.must("scancel", number)
    job = slurm.ended(number)
    assert (job["JobState"], job["Restarts"]) == ("CANCELLED", "0")
    status = json.loads(
        (desk / "cancelled" / "status.json").read_text()
    )  # Slurm may not leave its log time for the end
    assert (status["state"], status["why"], status["step"]) == ("stopped", "received SIGTERM", 2)
    assert (desk / "cancelled" / "checkpoints" / "step-00000002").exists()


def test_a_job_that_is_asked_by_a_file_is_not_requeued(slurm: Cluster, desk: Path) -> None:
    number = held(slurm, desk, "asked")
    (desk / "asked" / "STOP").touch()
    job = slurm.ended(number)
    assert (job["JobState"], job["ExitCode"], job["Restarts"]) == ("FAILED", "3:0", "0")
    assert "found asked/STOP" in last_line(desk, "asked")


def test_a_job_has_a_worker_per_gpu_of_slurm(slurm: Cluster, desk: Path) -> None:
    settings = (*TWENTY, "optim.max_steps=1", "name=gpus")
    number = slurm.sbatch("--gpus-per-node=2", "--output=gpus.log", TRAIN, *settings, cwd=desk)
    assert slurm.ended(number)["JobState"] == "COMPLETED"
    assert "workers: 2 on cpu" in (desk / "gpus.log").read_text()


def test_one_job_of_an_array_is_requeued_alone(slurm: Cluster, desk: Path) -> None:
    """The last to start has the number of the whole array."""
    runs = [word for name in ("first", "last") for word in ("--", *TWENTY, "zero=off", f"name={name}")]
    options = ("--array=0-1", "--output=%x-%a.log", "--job-name=array", SWEEP)
    number = slurm.sbatch(*options, *runs, cwd=desk, NPROC="1", PYTHONPATH=HELD)
    first, last = f"{number}_0", f"{number}_1"
    slurm.until(last, lambda job: at_step_2(desk / "first") and at_step_2(desk / "last"))
    assert slurm.job(last)["JobId"] == number
    slurm.must("scancel", "--signal=USR1", "--batch", last)
    job = slurm.ended(last)
    assert (job["JobState"], job["Restarts"]) == ("COMPLETED", "1")
    assert last_line(desk, "array-1") == "[slurm] last: done, step 20 of 20"
    assert (slurm.job(first)["JobState"], slurm.job(first)["Restarts"]) == ("RUNNING", "0")
    slurm.must("scancel", first)


def test_requeues_are_bounded(slurm: Cluster, desk: Path) -> None:
    number = held(slurm, desk, "bounded", MAX_REQUEUES="0")
    slurm.must("scancel", "--signal=USR1", "--batch", number)
    job = slurm.ended(number)
    assert (job["JobState"], job["ExitCode"], job["Restarts"]) == ("FAILED", "75:0", "0")
    assert "not finished after 0 requeues" in last_line(desk, "bounded")
