"""The planner's memory against memory measured: whole runs of train.py on CPU workers, checkpoint and export included.

    python benchmarks/planner.py [case ...] [--out planner.json]

Llama models of 100M parameters and more with random weights, made here and thrown away. `measured`: the largest VmHWM
of a worker (what it held at most, libraries and mapped files included) above what it held after its imports; the kernel
keeps it, so no peak is missed between two looks. Of the whole run, and of its steps alone: on a GPU the peak is there,
on a CPU often in the copy that a checkpoint is written from. Prints a row of docs/PLANNING.md per case.
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

sys.path.insert(0, str(Path(__file__).parents[1]))  # from the checkout, installed or not

from comparison.memory import GIB, resident_gib, start_peak
from comparison.shapes import Shape

ROOT = Path(__file__).parents[1]

UNTIED = Shape(vocabulary=80000, hidden=512, layers=6, heads=8, kv_heads=4, intermediate=1408, tied=False)
TIED = Shape(vocabulary=96000, hidden=768, layers=5, heads=12, kv_heads=4, intermediate=2816)
DEEP = Shape(vocabulary=32000, hidden=640, layers=16, heads=10, kv_heads=5, intermediate=1728, tied=False)
MEDIANS = (120, 80, 80)  # tokens of prompt, chosen, rejected
COMMON = [
    "data.max_length=1024",
    "model.chat_template=raw",
    "track.wandb=off",
    "track.progress=false",
    "eval.fraction=0",
    "eval.samples=0",
    "optim.max_steps=2",  # moments come with the first step
]
LONGEST = ["optim.micro_batch_tokens=4400"]
LONG = ["optim.micro_batch_tokens=2400"]
SHORT = ["optim.micro_batch_tokens=350"]
HALF = ["precision=bf16"]
PARTS = ("forward", "backward", "step")  # of a training step


@dataclass(kw_only=True, slots=True)
class Case:
    """One run of train.py, in two steps over all its pairs."""

    workers: int = 1
    pairs: int = 4
    shape: Shape = field(default_factory=lambda: UNTIED)
    settings: list[str] = field(default_factory=list)


CASES = {
    "plain": Case(settings=["zero=off", *SHORT]),
    "plain, rows of 2,400": Case(pairs=16, settings=["zero=off", *LONG]),
    "plain, rows of 2,400, full": Case(pairs=16, settings=["zero=off", *LONG, "model.gradient_checkpointing=full"]),
    "plain, rows of 2,400, selective": Case(
        pairs=16, settings=["zero=off", *LONG, "model.gradient_checkpointing=selective"]
    ),
    "plain, sharded reference": Case(settings=["zero=off", *SHORT, "reference=sharded"]),
    "plain, tied head of 96,000": Case(shape=TIED, settings=["zero=off", *SHORT]),
    "plain, LoRA": Case(settings=["zero=off", *SHORT, "adapter=lora"]),
    "plain, LoRA, adapter off": Case(settings=["zero=off", *SHORT, "adapter=lora", "reference=adapter_off"]),
    "2 workers, plain": Case(workers=2, settings=["zero=off", *SHORT]),
    "2 workers, ZeRO-1": Case(workers=2, settings=["zero=zero1", *SHORT]),
    "2 workers, ZeRO-2": Case(workers=2, settings=["zero=zero2", *SHORT]),
    "2 workers, ZeRO-3": Case(workers=2, settings=["zero=zero3", *SHORT]),
    "2 workers, ZeRO-3, sharded reference": Case(workers=2, settings=["zero=zero3", *SHORT, "reference=sharded"]),
    "2 workers, ZeRO-3, tied head of 96,000": Case(workers=2, shape=TIED, settings=["zero=zero3", *SHORT]),
    "2 workers, ZeRO-3, LoRA": Case(workers=2, settings=["zero=zero3", *SHORT, "adapter=lora"]),
    "bf16, plain": Case(settings=["zero=off", *SHORT, *HALF]),
    "bf16, 2 workers, ZeRO-1": Case(workers=2, settings=["zero=zero1", *SHORT, *HALF]),
    "bf16, 2 workers, ZeRO-2": Case(workers=2, settings=["zero=zero2", *SHORT, *HALF]),
    "bf16, 2 workers, ZeRO-3": Case(workers=2, settings=["zero=zero3", *SHORT, *HALF]),
    "114M, rows of 4,400": Case(shape=DEEP, pairs=24, settings=["zero=off", *LONGEST]),
    "114M, rows of 4,400, selective": Case(
        shape=DEEP, pairs=24, settings=["zero=off", *LONGEST, "model.gradient_checkpointing=selective"]
    ),
    "114M, bf16, rows of 2,400, 2 workers, ZeRO-3": Case(
        shape=DEEP, workers=2, pairs=32, settings=["zero=zero3", *LONG, *HALF]
    ),
}
# The planner was finished on those above. These came after it was.
UNSEEN = {
    "114M, rows of 4,400, full, 2 workers, ZeRO-2": Case(
        shape=DEEP, workers=2, pairs=48, settings=["zero=zero2", *LONGEST, "model.gradient_checkpointing=full"]
    ),
    "114M, padded rows": Case(shape=DEEP, pairs=16, settings=["zero=off", *LONG, "layout=padded"]),
    "114M, moving reference": Case(shape=DEEP, settings=["zero=off", *SHORT, "reference=moving"]),
    "3 workers, ZeRO-3, tied head of 96,000": Case(shape=TIED, workers=3, pairs=6, settings=["zero=zero3", *SHORT]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=[*CASES, *UNSEEN], help="names of cases; all without")
    parser.add_argument("--out", help="write the results as JSON")
    arguments = parser.parse_args()
    results: dict[str, dict[str, Any]] = {}
    sys.stdout.write("| run | GiB predicted | measured | | most in | training predicted | measured | |\n")
    sys.stdout.write("|---|---|---|---|---|---|---|---|\n")
    for name in arguments.cases:
        result = results[name] = compared((CASES | UNSEEN)[name])
        training = result["phases"]["training"], training_peak(result["workers"])
        whole = figures(result["predicted"], result["measured"])
        sys.stdout.write(f"| {name} | {whole} | {result['phase']} | {figures(*training)} |\n")
        sys.stdout.flush()
        if arguments.out:
            Path(arguments.out).write_text(json.dumps(results, indent=1))


def figures(predicted: float, measured: float) -> str:
    return f"{predicted:.2f} | {measured:.2f} | {predicted / measured - 1:+.0%}"


def training_peak(workers: list[dict[str, float]]) -> float:
    """The most of all parts of a step."""
    return max(peak for one in workers for phase, peak in one.items() if phase.startswith("training"))


def compared(case: Case) -> dict[str, Any]:
    """What was predicted before the run, and what its workers held."""
    import torch
    from comparison.shapes import save_model

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        save_model(case.shape, place / "model", torch.float32)
        lengths = write_pairs(place / "pairs.jsonl", case)
        settings = [*COMMON, *case.settings, f"output_dir={place}", "name=run"]
        settings += [f"optim.global_batch_size={case.pairs // 2}"]
        settings += [f"model.path={place / 'model'}", f"data.path={place / 'pairs.jsonl'}"]
        told = predicted(settings, case, lengths)
        peaks = run(settings, case, place)
        return {**told, "measured": max(max(one.values()) for one in peaks), "workers": peaks}


def write_pairs(file: Path, case: Case) -> tuple[float, float, float]:
    """Random words; log-normal lengths. Returns the mean tokens of prompts and of answers, and of the longest pair."""
    import numpy as np

    rng = np.random.default_rng(0)
    lengths = np.clip(np.array(MEDIANS) * rng.lognormal(0, 0.4, (case.pairs, 3)), 2, 340).astype(int)
    with file.open("w") as lines:
        for row in lengths:
            texts = [" ".join(f"w{i}" for i in rng.integers(2, case.shape.vocabulary, n)) for n in row]
            pair = {"prompt": texts[0], "chosen": " " + texts[1], "rejected": " " + texts[2]}
            lines.write(json.dumps(pair) + "\n")
    longest = float(lengths.sum(axis=1).max()) + 2  # an answer ends with the end token
    return float(lengths[:, 0].mean()), float(lengths[:, 1:].mean()) + 1, longest


def predicted(settings: list[str], case: Case, tokens: tuple[float, float, float]) -> dict[str, Any]:
    from dpo.build_plan import Machines, job_of
    from dpo.config.compose import compose_run
    from dpo.config.derive import derive
    from dpo.model.shape import architecture_of
    from dpo.model.source import policy_source
    from dpo.planner.devices import cpu_worker
    from dpo.planner.job import Lengths
    from dpo.planner.memory import memory

    config = compose_run(settings, case.workers).config
    derive(config)
    source = policy_source(config.model, config.seed)
    prompt, answer, longest = tokens
    lengths = Lengths(pairs=case.pairs, held_out=0, prompt=prompt, answer=answer, longest=longest, source="made")
    machines = Machines(cpu_worker(1.0), case.workers, case.workers)
    held = memory(job_of(config, architecture_of(source.config(), source), machines, lengths))
    phases = {phase: sum(parts.values()) / GIB for phase, parts in held.phases.items()}
    return {"predicted": held.peak / GIB, "phase": held.phase, "phases": phases, "job": asdict(lengths)}


def run(settings: list[str], case: Case, place: Path) -> list[dict[str, float]]:
    """The peaks of every worker, GiB above its imports, by phase."""
    many = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={case.workers}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PLANNER_OUT": str(place / "peak")}
    launch = [sys.executable, *(many if case.workers > 1 else []), __file__, "--worker", *settings]
    ended = subprocess.run(launch, env=environment, capture_output=True, text=True)
    if ended.returncode:
        raise SystemExit(ended.stdout + ended.stderr)
    return [json.loads(file.read_text()) for file in sorted(place.glob("peak-*"))]


@dataclass(slots=True)
class Phases:
    """The most that this worker held in every part of its run."""

    baseline: float
    peaks: dict[str, float] = field(default_factory=dict)
    running: list[str] = field(default_factory=lambda: ["between"])  # parts within parts, the innermost last

    def mark(self) -> None:
        """The peak since the last mark belongs to the part that runs."""
        name = self.running[-1]
        self.peaks[name] = max(self.peaks.get(name, 0.0), resident_gib("VmHWM") - self.baseline)
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM (proc(5))

    def wrap(self, owner: Any, method: str, name: str) -> None:
        """Give every call of a method to `name`."""
        original: Callable[..., Any] = getattr(owner, method)

        def marked(*arguments: Any, **named: Any) -> Any:
            self.mark()
            self.running.append(name)
            try:
                return original(*arguments, **named)
            finally:
                self.mark()
                self.running.pop()

        setattr(owner, method, marked)


def worker(settings: list[str]) -> int:
    """Train as train.py does."""
    import deepspeed  # noqa: F401  # before the baseline, as every import

    import dpo.run
    from dpo import cli
    from dpo.checkpoint.save import Checkpoints
    from dpo.distributed.plain import PlainEngine
    from dpo.distributed.zero import ZeroEngine
    from dpo.trainer import Trainer

    phases = Phases(baseline=start_peak())
    for owner, method, name in (
        (dpo.run, "fill_reference", "reference pass"),
        (dpo.run.Run, "_self_check", "self-check"),
        (Trainer, "train", "training"),
        *(
            (engine, part, f"training: {part}")
            for engine in (PlainEngine, ZeroEngine)
            for part in ("forward", "backward", "step")
        ),
        (Checkpoints, "save", "checkpoint"),
        (Checkpoints, "finish", "checkpoint"),
        (dpo.run, "export", "export"),
    ):
        phases.wrap(owner, method, name)
    code = cli.main(settings)
    phases.mark()
    Path(f"{os.environ['PLANNER_OUT']}-{os.environ.get('RANK', '0')}").write_text(json.dumps(phases.peaks))
    return code


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        sys.exit(worker(sys.argv[2:]))
    main()
