"""launch/slurm/*.sbatch with stand-ins for Slurm's commands, where a test on the real one would take minutes: what is
started, in which container, and when a job goes back into the queue. tests/run/test_slurm.py runs them on a Slurm."""

import os
import subprocess
from datetime import datetime
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

SLURM = Path(__file__).parents[2] / "launch" / "slurm"
FAKES = {
    "scontrol": """case "$*" in
      *hostnames*) printf "n1\\nn2\\n" ;;
      *requeue*) echo "$*" >>requeued; kill -TERM $PPID; kill -9 $PPID ;;
      *node*) echo "NodeName=n1 NodeAddr=10.1.1.1 Port=6818" ;;
      *) echo "JobId=7 JobState=RUNNING Reason=None PreemptTime=$PREEMPTED" ;;
    esac""",
    "getent": 'exit "${UNKNOWN:-0}"',
    "squeue": 'echo "2030-01-01T00:00:00"',
    "scancel": 'echo "$*" >>cancelled',
    "srun": 'printf \'%s\\0\' "$@" >srun; env >environment; exit "${CODE:-0}"',
    "apptainer": 'echo "$*" >>apptainer; exit "${STATE:-0}"',
    "python": 'printf "outputs/x: %s\\n" "$SAID"; printf "%s\\0" "$@" >status; exit "${STATE:-0}"',
    "accelerate": "",
}


def run(
    folder: Path, *settings: str, script: str = "train.sbatch", **variables: str
) -> subprocess.CompletedProcess[str]:
    (folder / "bin").mkdir(exist_ok=True)
    for name, body in FAKES.items():
        (folder / "bin" / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (folder / "bin" / name).chmod(0o755)
    known = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-2]", "PREEMPTED": "None", "SAID": "done"}
    own = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "MASTER", "CONTAINER"))}
    environment = {**own, **known, **variables, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    return subprocess.run(
        [str(SLURM / script), *settings], cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )


def words(file: Path) -> list[str]:
    return file.read_text().split("\0")[:-1]


def test_one_launcher_per_node_gets_the_settings_as_they_are(tmp_path: Path) -> None:
    settings = ["loss.terms=[{name: sigmoid}, {name: sft}]", "data.path=it's.jsonl"]
    done = run(tmp_path, *settings)
    assert done.returncode == 0 and done.stderr.endswith("[slurm] outputs/x: done\n")
    started = words(tmp_path / "srun")
    assert started[-2:] == settings and "--nodes=2" in started and "--kill-on-bad-exit=1" in started
    assert words(tmp_path / "status") == ["-m", "dpo", "status", *settings]
    assert not (tmp_path / "requeued").exists()


def test_workers_know_where_they_meet_how_many_they_are_and_when_the_job_ends(tmp_path: Path) -> None:
    assert run(tmp_path, SLURM_GPUS_ON_NODE="4").returncode == 0
    lines = (tmp_path / "environment").read_text().splitlines()
    end = int(datetime(2030, 1, 1).timestamp())
    expected = ["MASTER_ADDR=n1", "MASTER_PORT=20007", "NODES=2", "NPROC=4", f"SLURM_JOB_END_TIME={end}"]
    assert [line for line in expected if line not in lines] == []
    assert run(tmp_path, MASTER_ADDR="10.0.0.1").returncode == 0
    assert "MASTER_ADDR=10.0.0.1" in (tmp_path / "environment").read_text()
    assert run(tmp_path, NPROC="2", UNKNOWN="2").returncode == 0
    assert {"NPROC=2", "MASTER_ADDR=10.1.1.1"} <= set((tmp_path / "environment").read_text().splitlines())


@pytest.mark.parametrize(
    ("variables", "code", "requeued"),
    [
        ({"STATE": "75"}, None, True),  # USR1 or the deadline
        ({"STATE": "75", "SLURM_RESTART_COUNT": "3", "MAX_REQUEUES": "3"}, 75, False),
        ({"STATE": "75", "CODE": "2"}, 2, False),  # how an earlier start ended
        ({"STATE": "3"}, 3, False),  # STOP, or scancel
        ({"STATE": "3", "CODE": "143", "PREEMPTED": "2030-01-01T00:00:00"}, None, True),
        ({"STATE": "3", "CODE": "143"}, 3, False),
        ({"STATE": "1", "CODE": "1", "SAID": "failed after step 3: why"}, 1, False),
        ({"STATE": "0", "CODE": "134"}, 134, False),
        ({"STATE": "4"}, 4, False),
    ],
)
def test_a_job_goes_back_into_the_queue_when_its_time_is_up_and_else_ends(
    variables: dict[str, str], code: int | None, requeued: bool, tmp_path: Path
) -> None:
    done = run(tmp_path, **variables)
    assert (tmp_path / "requeued").exists() == requeued, done.stderr
    if code is not None:
        assert done.returncode == code
    if "failed" in variables.get("SAID", ""):
        assert done.stderr.endswith("[slurm] failed with exit code 1: outputs/x: failed after step 3: why\n")
    if "MAX_REQUEUES" in variables:
        assert "not finished after 3 requeues" in done.stderr


@pytest.mark.parametrize(("code", "requeued"), [("0", False), ("1", False), ("75", True)])
def test_a_reference_pass_tells_by_its_exit_code(code: str, requeued: bool, tmp_path: Path) -> None:
    done = run(tmp_path, "reference", "model=tiny", STATE="1", CODE=code)
    assert (tmp_path / "requeued").exists() == requeued and not (tmp_path / "status").exists()
    assert requeued or done.returncode == int(code)


def test_pyxis_and_apptainer_see_project_folder_and_mounts(tmp_path: Path) -> None:
    image = {"CONTAINER": "dpo.sqsh", "CONTAINER_MOUNTS": "/data:/data"}
    root = SLURM.parents[1]
    mounts = f"{root}:{root},{tmp_path}:{tmp_path},/data:/data"
    assert run(tmp_path, **image).returncode == 0
    started = words(tmp_path / "srun")
    inside = ["--container-image=dpo.sqsh", f"--container-mounts={mounts}", f"--container-workdir={tmp_path}"]
    assert set(inside) <= set(started), "the status is asked there as well"
    assert run(tmp_path, **image, CONTAINER_RUNTIME="apptainer").returncode == 0
    started = words(tmp_path / "srun")
    assert started[started.index("apptainer") :][:3] == ["apptainer", "exec", "--nv"]
    assert f"--bind {mounts} --pwd {tmp_path} dpo.sqsh python -m dpo status" in (tmp_path / "apptainer").read_text()
    assert run(tmp_path, **image, CONTAINER_RUNTIME="docker").returncode == 2


def test_an_array_takes_the_settings_of_its_number(tmp_path: Path) -> None:
    runs = ["--", "loss=sigmoid", "name=a b", "--", "loss=ipo", "name=c"]
    array = {"script": "sweep.sbatch", "SLURM_ARRAY_JOB_ID": "7", "STATE": "75"}
    run(tmp_path, *runs, **array, SLURM_ARRAY_TASK_ID="0")
    assert words(tmp_path / "srun")[-2:] == ["loss=sigmoid", "name=a b"]
    run(tmp_path, *runs, **array, SLURM_ARRAY_TASK_ID="1")
    assert words(tmp_path / "srun")[-2:] == ["loss=ipo", "name=c"]
    assert (tmp_path / "requeued").read_text() == "requeue 7_0\nrequeue 7_1\n"
    done = run(tmp_path, *runs, **array, SLURM_ARRAY_TASK_ID="2")
    assert done.returncode == 2 and "--array=0-1" in done.stderr
