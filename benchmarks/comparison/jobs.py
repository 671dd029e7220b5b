"""What one measurement is told and what it answers, and the fresh processes that do it."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass(kw_only=True, slots=True)
class Job:
    """One training of either side: the same for both but for `settings`."""

    model: str  # folder with config, weights, tokenizer
    pairs: str  # JSONL with prompt, chosen, rejected
    folder: str  # scratch, of this job alone
    precision: str  # fp32 | bf16
    adapter: str = "none"  # none | lora
    reference: str | None = None  # a folder with other weights; null: the model's own start
    global_batch: int
    max_length: int
    warmup_epochs: int = 0  # over the same pairs, before the clock starts
    epochs: int = 1
    lr: float = 5e-7
    workers: int = 1
    threads: int = 1  # of each worker, for CPU operations
    settings: dict[str, Any] = field(default_factory=dict)  # the side's own
    batch_sizes: list[int] = field(default_factory=list)  # TRL: search among these instead of measuring `settings`


@dataclass(kw_only=True, slots=True)
class Measured:
    """What a worker answers. Times are wall clock, without loading, compiling and saving."""

    seconds: float  # of the measured epochs
    reference_seconds: float | None  # for one epoch's pairs, before or within `seconds`; null: not seen apart
    baseline_gib: float  # held after the imports
    peak_gib: float
    computed_tokens: int  # of one epoch, padding included
    inputs: str  # digest of every pair's token ids, in any order
    loss: float | None = None  # of the first step
    chosen_logps: float | None = None  # mean over its pairs, nats
    overhead: float | None = None  # share of `seconds` outside model and optimizer; null where it cannot be seen


class WorkerError(RuntimeError):
    """A measurement did not come to its end."""


def digest(pairs: Iterable[tuple[list[int], list[int], list[int]]]) -> str:
    """Names the token ids of (prompt, chosen, rejected) of all pairs, whatever their order."""
    lines = sorted(json.dumps([list(part) for part in pair]) for pair in pairs)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def run_worker(module: str, job: Job, launcher: list[str] | None = None) -> Any:
    """Run `comparison.<module>` in a process of its own and return what it wrote.

    `launcher` goes before the module for several workers (torchrun or accelerate). Raises WorkerError.
    """
    folder = Path(job.folder)
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(json.dumps(asdict(job)))
    start = launcher or [sys.executable]
    command = [*start, "-m", f"comparison.{module}", str(folder / "job.json")]
    ended = subprocess.run(
        command, env=_environment(folder, job.threads), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    answer = folder / "answer.json"
    if ended.returncode or not answer.exists():
        raise WorkerError(f"{' '.join(command)} ended with {ended.returncode}:\n{ended.stdout[-4000:]}")
    return json.loads(answer.read_text())


def read_job() -> Job:
    """In a worker: the job that its command line names."""
    return Job(**json.loads(Path(sys.argv[1]).read_text()))


def answer(job: Job, value: Any) -> None:
    """In a worker: the result, from the first of several."""
    if os.environ.get("RANK", "0") == "0":
        Path(job.folder, "answer.json").write_text(json.dumps(value))


def _environment(folder: Path, threads: int) -> dict[str, str]:
    """Offline, without what a launcher around this process has set, and with caches of the job's own: nothing that one
    measurement computed helps the next."""
    foreign = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    kept = {
        k: v for k, v in os.environ.items() if k not in foreign and not k.startswith(("ACCELERATE_", "TORCHELASTIC"))
    }
    return {
        **kept,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'benchmarks'}",
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(folder / "datasets"),
        "WANDB_MODE": "disabled",
        "TQDM_DISABLE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
