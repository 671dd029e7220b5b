"""The planner's memory against memory measured: whole runs of train.py on CPU workers, checkpoint and export included.

    python benchmarks/planner.py [case ...] [--out planner.json]

Llama models of 100M to 130M parameters with random weights, float32, made here and thrown away. `measured`: the largest
VmHWM of a worker (what it held at most, libraries and mapped files included) above what it held after its imports; the
kernel keeps it, so no peak is missed between two looks.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # from the checkout, installed or not

from comparison.memory import GIB, resident_gib, start_peak
from comparison.shapes import Shape

UNTIED = Shape(vocabulary=80000, hidden=512, layers=6, heads=8, kv_heads=4, intermediate=1408, tied=False)
TIED = Shape(vocabulary=96000, hidden=768, layers=5, heads=12, kv_heads=4, intermediate=2816)
LENGTHS = (120, 80, 80)  # median tokens of prompt, chosen, rejected
COMMON = [
    "data.max_length=1024",
    "model.chat_template=raw",
    "track.wandb=off",
    "track.progress=false",
    "eval.fraction=0",
    "eval.samples=0",
    "optim.max_steps=2",
]


@dataclass(kw_only=True, slots=True)
class Case:
    """One run of train.py."""

    workers: int = 1
    pairs: int = 4
    shape: Shape = field(default_factory=lambda: UNTIED)
    settings: list[str] = field(default_factory=list)


CASES = {
    "plain": Case(settings=["zero=off", "optim.micro_batch_tokens=350"]),
    "plain, long rows": Case(pairs=16, settings=["zero=off", "optim.micro_batch_tokens=2400"]),
    "plain, full checkpointing": Case(
        pairs=16, settings=["zero=off", "optim.micro_batch_tokens=2400", "model.gradient_checkpointing=full"]
    ),
    "plain, selective": Case(
        pairs=16, settings=["zero=off", "optim.micro_batch_tokens=2400", "model.gradient_checkpointing=selective"]
    ),
    "plain, sharded reference": Case(settings=["zero=off", "optim.micro_batch_tokens=350", "reference=sharded"]),
    "LoRA": Case(settings=["zero=off", "adapter=lora", "optim.micro_batch_tokens=350"]),
    "LoRA, adapter off": Case(
        settings=["zero=off", "adapter=lora", "optim.micro_batch_tokens=700", "reference=adapter_off"]
    ),
    "large vocabulary": Case(shape=TIED, settings=["zero=off", "optim.micro_batch_tokens=350"]),
    "two workers, plain": Case(workers=2, settings=["zero=off", "optim.micro_batch_tokens=350"]),
    "two workers, ZeRO-1": Case(workers=2, settings=["zero=zero1", "optim.micro_batch_tokens=350"]),
    "two workers, ZeRO-2": Case(workers=2, settings=["zero=zero2", "optim.micro_batch_tokens=350"]),
    "two workers, ZeRO-3": Case(workers=2, settings=["zero=zero3", "optim.micro_batch_tokens=350"]),
    "two workers, ZeRO-3, full": Case(
        workers=2, pairs=16, settings=["zero=zero3", "optim.micro_batch_tokens=1200", "model.gradient_checkpointing=full"]
    ),
    "two workers, ZeRO-3, sharded reference": Case(
        workers=2, settings=["zero=zero3", "optim.micro_batch_tokens=350", "reference=sharded"]
    ),
    "two workers, ZeRO-3, large vocabulary": Case(
        workers=2, shape=TIED, settings=["zero=zero3", "optim.micro_batch_tokens=350"]
    ),
    "two workers, ZeRO-3, LoRA": Case(
        workers=2, settings=["zero=zero3", "adapter=lora", "optim.micro_batch_tokens=350"]
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=list(CASES), help="names of cases; all without")
    parser.add_argument("--out", help="write the results as JSON")
    arguments = parser.parse_args()
    results = {}
    for name in arguments.cases:
        results[name] = measure(CASES[name])
        sys.stdout.write(f"{name}: {json.dumps(results[name])}\n")
        sys.stdout.flush()
        if arguments.out:
            Path(arguments.out).write_text(json.dumps(results, indent=1))


def measure(case: Case) -> dict[str, Any]:
    import torch

    from comparison.shapes import save_model

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        save_model(case.shape, place / "model", torch.float32)
        write_pairs(place / "pairs.jsonl", case)
        settings = [*COMMON, f"optim.global_batch_size={case.pairs // 2}", f"output_dir={place}", "name=run"]
        settings += [f"model.path={place / 'model'}", f"data.path={place / 'pairs.jsonl'}", *case.settings]
        launch = [] if case.workers == 1 else ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={case.workers}"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PLANNER_OUT": str(place / "peak")}
        ended = subprocess.run(
            [sys.executable, *launch, __file__, "--worker", *settings], env=environment, capture_output=True, text=True
        )
        if ended.returncode:
            raise SystemExit(ended.stdout + ended.stderr)
        peaks = [json.loads(file.read_text()) for file in sorted(place.glob("peak-*"))]
        return {"peaks": peaks}


def write_pairs(file: Path, case: Case) -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    with file.open("w") as lines:
        for _ in range(case.pairs):
            lengths = np.clip(np.array(LENGTHS) * rng.lognormal(0, 0.4, 3), 2, 340).astype(int)
            texts = [" ".join(f"w{i}" for i in rng.integers(2, case.shape.vocabulary, n)) for n in lengths]
            row = {"prompt": texts[0], "chosen": " " + texts[1], "rejected": " " + texts[2]}
            lines.write(json.dumps(row) + "\n")


@dataclass(slots=True)
class Phases:
    """The most that was held in every part of a run, GiB above the imports."""

    baseline: float = 0.0
    peaks: dict[str, float] = field(default_factory=dict)

    def mark(self, name: str) -> None:
        """The peak since the last mark belongs to `name`."""
        self.peaks[name] = max(self.peaks.get(name, 0.0), resident_gib("VmHWM") - self.baseline)
        self.peaks["held after " + name] = resident_gib("VmRSS") - self.baseline
        self.peaks["anon after " + name] = resident_gib("RssAnon") 
        Path("/proc/self/clear_refs").write_text("5")

    def wrap(self, owner: Any, method: str, name: str) -> None:
        original: Callable[..., Any] = getattr(owner, method)

        def marked(*arguments: Any, **named: Any) -> Any:
            self.mark("before " + name)
            try:
                return original(*arguments, **named)
            finally:
                self.mark(name)

        setattr(owner, method, marked)


def worker(settings: list[str]) -> int:
    from dpo import cli, run
    from dpo.checkpoint.save import Checkpoints
    from dpo.evaluate.held_out import HeldOut
    from dpo.trainer import Trainer
    import deepspeed
    from dpo.distributed import zero

    phases = Phases(baseline=start_peak())
    for owner, method, name in (
        (run, "fill_reference", "reference pass"),
        (run, "build_policy", "policy"),
        (run, "build_engine", "engine"),
        (run.Run, "_self_check", "self-check"),
        (HeldOut, "measure", "evaluation"),
        (run, "train_step", "step") if hasattr(run, "train_step") else (Trainer, "train", "step"),
        (Checkpoints, "save", "checkpoint"),
        (run, "export", "export"),
    ):
        phases.wrap(owner, method, name)
    code = cli.main(settings)
    phases.mark("end")
    rank = os.environ.get("RANK", "0")
    Path(f"{os.environ['PLANNER_OUT']}-{rank}").write_text(json.dumps({k: round(v, 3) for k, v in phases.peaks.items()}))
    return code


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        sys.exit(worker(sys.argv[2:]))
    main()
