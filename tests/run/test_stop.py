"""Asked to stop, wherever it is, a run leaves with exit code 0, and the next launch of the same command continues to
the result of a run that nobody disturbed."""

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from launch import ROOT, Ended, accelerate, command, finish, read_rows, start, wait_for_step, worker

pytestmark = pytest.mark.run

SETTINGS = (
    "data.demo=120",
    "optim.lr=1e-4",
    "optim.global_batch_size=16",
    "optim.micro_batch_pairs=2",
    "optim.epochs=2",
    "optim.max_steps=8",
    "loss.beta=0.3",
    "reference.batch_tokens=400",
    "eval.every=4",
    "eval.samples=3",
    "eval.max_new_tokens=8",
    "checkpoint.every=6",
    "track.wandb=off",
    "track.progress=false",
)
MEASURED = ("pairs_per_second", "tokens_per_second", "peak_memory_gib")  # differ from run to run

# What one launch after the other meets, and the step it leaves behind (None: stopped before training).
ON_THE_WAY = [
    ("tokenizing:SIGTERM", None),
    ("fingerprint:SIGINT", None),
    ("reference:SIGUSR1", None),
    ("loading:SIGTERM", None),
    ("generation@0:SIGINT", 0),
    ("accumulation@3:deadline", 3),
    ("accumulation@3:SIGUSR1", 3),
    ("evaluation@4:file", 4),
    ("saving@6:SIGTERM", 6),
    ("generation@8:SIGINT", 8),
]


def statuses(output: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("STATUS ")) for line in output.splitlines() if line.startswith("STATUS ")]


def assert_stopped(status: dict[str, Any], how: str, step: int | None) -> None:
    assert status["state"] == "stopped", how
    asked = how.split(":")[1]
    if asked == "deadline":
        assert status["why"].endswith("reached checkpoint.deadline=3s")  # of two workers' clocks either may be first
        assert status["step"] <= 3, "on a slow machine it comes earlier"
        return
    assert ("STOP" if asked == "file" else asked) in status["why"]
    assert status["step"] == (step or 0)
    assert 0 <= status["stop_seconds"] < 60


def numbers(folder: Path) -> list[dict[str, Any]]:
    rows = read_rows(folder / "metrics.jsonl")
    return [{name: value for name, value in row.items() if name not in MEASURED} for row in rows]


def assert_same_result(found: Path, undisturbed: Path) -> None:
    """Bit for bit: what was logged, each step once; what was answered; the weights; the moments."""
    assert [row["step"] for row in numbers(undisturbed)] == [0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 8]
    assert numbers(found) == numbers(undisturbed)
    files = ["samples.jsonl", "final/model.safetensors"]
    files += [
        str(path.relative_to(undisturbed)) for path in undisturbed.glob("checkpoints/step-00000008/*.safetensors")
    ]
    assert len(files) > 2
    for name in files:
        assert (found / name).read_bytes() == (undisturbed / name).read_bytes(), name


def test_one_process_stopped_everywhere(tmp_path: Path) -> None:
    """While the machine's clock runs backwards."""
    items = ["undisturbed/-", *(f"stopped/{how}" for how, _ in ON_THE_WAY), "stopped/exporting@8:SIGTERM"]
    code, output = worker(1, "stopping.py", " ".join(items), "0", *SETTINGS, "zero=off", cwd=tmp_path)
    assert code == 0, output
    undisturbed, *stopped, last = statuses(output)
    assert undisturbed["state"] == "done" and undisturbed["stop_seconds"] is None, output
    assert len(stopped) == len(ON_THE_WAY), output
    for status, (how, step) in zip(stopped, ON_THE_WAY, strict=True):
        assert_stopped(status, how, step)
    assert last["state"] == "done", "nothing is left to do: the export is not given up"
    assert_same_result(tmp_path / "stopped", tmp_path / "undisturbed")


@pytest.mark.slow
@pytest.mark.timeout(2400)  # 13 launches
@pytest.mark.parametrize("zero", ["zero3", "zero2", "off"])
def test_one_of_two_workers_is_asked_everywhere(zero: str, tmp_path: Path) -> None:
    """They agree: both leave, whichever of them heard it."""
    settings = (*SETTINGS, f"zero={zero}")
    code, output = worker(2, "stopping.py", "undisturbed/-", "0", *settings, cwd=tmp_path)
    assert code == 0, output
    for i, (how, step) in enumerate(ON_THE_WAY):
        asked = "0" if how.startswith("fingerprint") else str(i % 2)  # which only the main worker computes
        code, output = worker(2, "stopping.py", f"stopped/{how}", asked, *settings, cwd=tmp_path)
        assert code == 0, output
        (status,) = statuses(output)
        assert_stopped(status, how, step)
        if "SIG" in how:
            assert status["why"].startswith("worker 1 ") == (asked == "1")
    code, output = worker(2, "stopping.py", "stopped/-", "0", *settings, cwd=tmp_path)
    assert code == 0, output
    assert_same_result(tmp_path / "stopped", tmp_path / "undisturbed")


def stopped_through(launcher: list[str], cwd: Path, number: signal.Signals) -> Ended:
    """`launcher` trains with two workers and gets the signal after three steps."""
    process = start(launcher, cwd)
    wait_for_step(process, cwd / "run" / "metrics.jsonl", 3)
    process.send_signal(number)
    code, output = finish(process)
    return Ended(code=code, output=output, folder=cwd / "run")


LONG = (
    "zero=off",
    "data.demo=300",
    "optim.max_steps=4000",
    "eval.samples=0",
    "track.wandb=off",
    "track.progress=false",
)
RUN = (*LONG, "output_dir=.", "name=run")


def assert_left_in_order(ended: Ended, why: str) -> None:
    """Both workers, with a checkpoint of the last step. The launcher's own exit code is another matter."""
    assert ended.status["state"] == "stopped", ended.output
    assert why in ended.status["why"]
    step = ended.status["step"]
    assert step >= 3 and ended.checkpoints == [f"step-{step:08d}"]
    assert ended.train[-1]["step"] == step


def test_torchrun_passes_a_signal_on(tmp_path: Path) -> None:
    ended = stopped_through(command(2, ROOT / "train.py", *RUN), tmp_path, signal.SIGTERM)
    assert_left_in_order(ended, "received SIGTERM")
    assert ended.code == 1, "torchrun's own: it was killed, in its eyes; dpo/preempt.py leaves with 0"


@pytest.mark.slow
def test_accelerate_passes_ctrl_c_on(tmp_path: Path) -> None:
    ended = stopped_through(
        accelerate(["--multi_gpu", "--num_processes", "2", "--num_machines", "1"], *RUN), tmp_path, signal.SIGINT
    )
    assert_left_in_order(ended, "received SIGINT")


@pytest.mark.slow
def test_local_sh_is_deaf_to_usr1_and_passes_term_on(tmp_path: Path) -> None:
    """As Slurm sends them: USR1 to every process of the step, of which the launcher would die."""
    process = start([str(ROOT / "launch" / "local.sh"), *RUN], tmp_path)
    wait_for_step(process, tmp_path / "run" / "metrics.jsonl", 3)
    process.send_signal(signal.SIGUSR1)
    steps = len(read_rows(tmp_path / "run" / "metrics.jsonl"))
    wait_for_step(process, tmp_path / "run" / "metrics.jsonl", steps + 3)
    assert process.poll() is None, "it goes on"
    process.send_signal(signal.SIGTERM)
    code, output = finish(process)
    assert_left_in_order(Ended(code=code, output=output, folder=tmp_path / "run"), "received SIGTERM")
    assert code == 128 + signal.SIGTERM, output


@pytest.mark.parametrize("n", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_scheduler_is_told_that_it_is_not_done(n: int, tmp_path: Path) -> None:
    """By an exit code that no failure has, through the launcher as well: Kubernetes and SkyPilot start it again."""
    process = start([str(ROOT / "launch" / "local.sh"), *RUN, "checkpoint.stopped_code=75"], tmp_path, NPROC=str(n))
    wait_for_step(process, tmp_path / "run" / "metrics.jsonl", 3)
    (tmp_path / "run" / "STOP").touch()
    code, output = finish(process)
    assert code == 75, output
    assert_left_in_order(Ended(code=code, output=output, folder=tmp_path / "run"), "STOP")


@pytest.mark.slow
def test_the_end_of_a_slurm_job_is_a_deadline(tmp_path: Path) -> None:
    """40 s from now; a tenth of what is left at the start is kept for leaving."""
    end = subprocess.run(["date", "+%s", "-d", "40 seconds"], capture_output=True, text=True, check=True).stdout.strip()
    code, output = finish(start(command(1, ROOT / "train.py", *RUN), tmp_path, SLURM_JOB_END_TIME=end))
    assert code == 0, output
    ended = Ended(code=code, output=output, folder=tmp_path / "run")
    assert "reached checkpoint.deadline=auto" in ended.status["why"], output
