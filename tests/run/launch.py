"""Starts the trainer as a user does, in processes of its own, and reads what it leaves behind."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
WORKERS = Path(__file__).resolve().parent / "workers"
LIMIT_SECONDS = 300

# 300 demo pairs and a loss that clearly moves; without samples, which would take most of the time.
SMALL = (
    "output_dir=.",
    "data.demo=300",
    "optim.lr=1e-4",
    "optim.global_batch_size=16",
    "loss.beta=0.3",
    "eval.samples=0",
    "track.wandb=off",
    "track.progress=false",
)
# Two epochs' worth in steps of 16: 18 full steps and one of 12 pairs, then the next epoch begins.
TWENTY = (*SMALL, "optim.epochs=2", "optim.max_steps=20", "checkpoint.every=0")


@dataclass(kw_only=True, slots=True)
class Ended:
    """A launch that is over."""

    code: int
    output: str  # stdout and stderr together
    folder: Path  # of the run: outputs/<name>, when it was given a name

    @property
    def rows(self) -> list[dict[str, Any]]:
        return read_rows(self.folder / "metrics.jsonl")

    @property
    def train(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["split"] == "train"]

    @property
    def held_out(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["split"] == "eval"]

    @property
    def status(self) -> dict[str, Any]:
        return json.loads((self.folder / "status.json").read_text())

    @property
    def checkpoints(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "checkpoints").glob("step-*"))


def environment(**extra: str) -> dict[str, str]:
    """This process's, without what a launcher around it has set; the tools of this Python on the PATH; no network."""
    drop = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    kept = {k: v for k, v in os.environ.items() if k not in drop and not k.startswith(("ACCELERATE_", "TORCHELASTIC_"))}
    return {
        **kept,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "WANDB_MODE": "offline",
        "PYTHONPATH": str(ROOT),
        **extra,
    }


def command(n: int, script: Path, *arguments: str) -> list[str]:
    """Plain Python for one process, torch's launcher for several."""
    return python(n, str(script), *arguments)


def python(n: int, *arguments: str) -> list[str]:
    """What follows `python`, or torch's launcher for several processes: a script or `-m` and a module."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(n)] if n > 1 else []
    return [sys.executable, *launcher, *arguments]


def accelerate(options: list[str], *arguments: str) -> list[str]:
    """`accelerate launch OPTIONS train.py ARGUMENTS`."""
    return [sys.executable, "-m", "accelerate.commands.launch", *options, str(ROOT / "train.py"), *arguments]


def start(arguments: list[str], cwd: Path, **extra: str) -> subprocess.Popen[str]:
    """In a process group of its own, so that all of it can be ended."""
    return subprocess.Popen(
        arguments,
        cwd=cwd,
        env=environment(**extra),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str], limit_seconds: int = LIMIT_SECONDS) -> tuple[int, str]:
    """Exit code and output; kills the whole group when it takes too long."""
    try:
        output, _ = process.communicate(timeout=limit_seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        raise AssertionError(f"not done after {limit_seconds} s:\n{output}") from None
    return process.returncode, output


def launch(n: int, *overrides: str, cwd: Path, **extra: str) -> Ended:
    """Run train.py on `n` CPU processes in `cwd`. `extra`: environment variables."""
    code, output = finish(start(command(n, ROOT / "train.py", *overrides), cwd, **extra))
    return Ended(code=code, output=output, folder=cwd / name_in(overrides))


def train(n: int, *overrides: str, cwd: Path, **extra: str) -> Ended:
    """A launch that must end well."""
    ended = launch(n, *overrides, cwd=cwd, **extra)
    assert ended.code == 0, ended.output
    return ended


def dpo(n: int, *arguments: str, cwd: Path) -> tuple[int, str]:
    """`python -m dpo ARGUMENTS`: exit code and output."""
    return finish(start(python(n, "-m", "dpo", *arguments), cwd))


def worker(n: int, script: str, *arguments: str, cwd: Path, limit_seconds: int = LIMIT_SECONDS) -> tuple[int, str]:
    """Run one of tests/run/workers on `n` processes."""
    return finish(start(command(n, WORKERS / script, *arguments), cwd), limit_seconds)


def train_and_stop(n: int, *overrides: str, cwd: Path, after_step: int, how: str) -> Ended:
    """Ask a run to stop once it has logged `after_step`: `how` is "file", or "signal" (one process only)."""
    process = start(command(n, ROOT / "train.py", *overrides), cwd)
    folder = cwd / name_in(overrides)
    try:
        wait_for_step(process, folder / "metrics.jsonl", after_step)
        if how == "file":
            (folder / "STOP").touch()
        else:
            process.send_signal(signal.SIGTERM)
    finally:
        code, output = finish(process)
    return Ended(code=code, output=output, folder=folder)


def wait_for_step(process: subprocess.Popen[str], metrics: Path, step: int) -> None:
    """Until the step is logged or the process has ended."""
    end = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < end and process.poll() is None:
        if any(row["step"] >= step for row in read_rows(metrics)):
            return
        time.sleep(0.02)


def read_rows(metrics: Path) -> list[dict[str, Any]]:
    """Whole lines only, the run may be writing one; none before the first step."""
    if not metrics.exists():
        return []
    lines = metrics.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def name_in(overrides: tuple[str, ...]) -> str:
    return next((text.removeprefix("name=") for text in overrides if text.startswith("name=")), "")


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """Process ids of a launcher's workers in order of rank; of a launch without launcher the process itself."""
    found = {}
    for pid in _children(process.pid):
        try:
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:  # it has just ended
            continue
        found |= {int(v.removeprefix(b"RANK=")): pid for v in variables if v.startswith(b"RANK=")}
    return [found[rank] for rank in sorted(found)] or [process.pid]


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
