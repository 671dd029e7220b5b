"""One case from model folder to numbers: check, search, measure both sides in turn, explain."""

import math
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import torch

from comparison import pairs as files
from comparison.jobs import Job, Measured, run_worker
from comparison.presets import Case, Preset
from comparison.search import Settings, best
from comparison.shapes import SHAPES, Shape, save_model, save_neighbour
from comparison.words import WordPair

SAME_LOSS = 1e-4  # float32 sums over other rows, in another order
LOSS_PAIRS = 4  # of every profile


class Disagreement(RuntimeError):
    """Both sides do not compute the same: nothing is worth measuring."""


@dataclass(kw_only=True, slots=True)
class Bench:
    """What all cases share."""

    preset: Preset
    folder: Path  # scratch
    data: Path
    threads: int
    matrix_rate: float | None
    say: Callable[[str], object] = sys.stdout.write
    _numbers: Any = field(init=False, default_factory=count)

    def model(self, shape: str) -> Path:
        """The shape's folder, made at the first call."""
        folder = self.folder / shape
        if not folder.exists():
            dtype = torch.bfloat16 if self.preset.precision == "bf16" else torch.float32
            save_model(SHAPES[shape], folder, dtype)
        return folder

    def job(self, case: Case, file: Path, **changes: Any) -> Job:
        workers = self.preset.workers
        common: dict[str, Any] = {
            "model": str(self.model(case.shape)),
            "pairs": str(file),
            "folder": str(self.folder / f"job-{next(self._numbers)}"),
            "precision": self.preset.precision,
            "adapter": SHAPES[case.shape].adapter,
            "global_batch": case.global_batch,
            "max_length": self.preset.longest,
            "warmup_epochs": self.preset.warmup_epochs,
            "workers": workers,
            "threads": max(1, self.threads // workers),
        }
        return Job(**(common | changes))

    def ours(self) -> Settings:
        return {"optim.micro_batch_tokens": self.preset.micro_batch_tokens}


def check_loss(bench: Bench, shape: str) -> dict[str, float]:
    """The loss of both sides on the same pairs of all profiles, in float32 against a reference with other weights.

    Raises:
        Disagreement: they differ by more than SAME_LOSS, or do not train on the same tokens.
    """
    cases = [case for case in bench.preset.cases if case.shape == shape] or bench.preset.cases
    vocabulary = SHAPES[shape].vocabulary
    mixed = [p for case in cases for p in files.case_pairs(case, vocabulary, bench.data)[:LOSS_PAIRS]]
    case = Case(shape=shape, profile="check", n_pairs=len(mixed))
    file = files.write(mixed, bench.folder / f"{shape}-check.jsonl")
    other = bench.folder / f"{shape}-neighbour"
    save_neighbour(bench.model(shape), other)
    whole = {"reference": str(other), "precision": "fp32", "global_batch": len(mixed), "workers": 1, "warmup_epochs": 0}
    trl = {"batch_size": 1, "precompute": False, "checkpointing": False}
    theirs = Measured(**run_worker("trl_side", bench.job(case, file, **whole, settings=trl)))
    own = Measured(**run_worker("ours", bench.job(case, file, **whole, settings=bench.ours())))
    require_same_tokens(mixed, own, theirs)
    assert own.loss is not None and theirs.loss is not None
    if not abs(own.loss - theirs.loss) <= SAME_LOSS:
        raise Disagreement(
            f"{shape}: the loss is {own.loss:.6f} here and {theirs.loss:.6f} in TRL (at most {SAME_LOSS})"
        )
    return {"ours": own.loss, "trl": theirs.loss, "pairs": len(mixed)}


def require_same_tokens(pairs: list[WordPair], *sides: Measured) -> None:
    wanted = files.expected(pairs)
    if found := [side.inputs for side in sides if side.inputs != wanted]:
        raise Disagreement(f"the token ids trained on have the digest {found[0]}, those of the pairs have {wanted}")


def run_case(bench: Bench, case: Case) -> dict[str, Any]:
    """Search, measure and explain one case. Raises FileNotFoundError when its pairs are not there."""
    shape = SHAPES[case.shape]
    pairs = files.case_pairs(case, shape.vocabulary, bench.data)
    file = files.write(pairs, bench.folder / f"{case.shape}-{case.profile}.jsonl")
    tried = search(bench, case, pairs[: case.global_batch])
    trl_settings = best(tried)["settings"]
    own, theirs = measure(bench, case, file, trl_settings)
    require_same_tokens(pairs, *own, *theirs)
    result = {
        "shape": case.shape,
        "sizes": shape.sizes,
        "head_share": shape.head_share,
        "profile": case.profile,
        "pairs": len(pairs),
        "median_tokens": [statistics.median(map(len, side)) for side in zip(*map(_sides, pairs), strict=True)],
        "content_tokens": sum(pair.content for pair in pairs),
        "tried": tried,
        "ours": summary(own, pairs, bench.ours()),
        "trl": summary(theirs, pairs, trl_settings),
    }
    return result | ratios(result) | {"mfu": utilisation(bench, shape, pairs, result)}


def _sides(pair: WordPair) -> tuple[tuple[int, ...], ...]:
    return pair.prompt, pair.chosen, pair.rejected


def search(bench: Bench, case: Case, some: list[WordPair]) -> list[dict[str, Any]]:
    """TRL's settings in turn, on the pairs of one step."""
    file = files.write(some, bench.folder / f"{case.shape}-{case.profile}-search.jsonl")
    per_worker = len(some) // bench.preset.workers
    sizes = [size for size in bench.preset.batch_sizes if per_worker % size == 0]
    changes = {"global_batch": len(some), "warmup_epochs": 0, "batch_sizes": sizes}
    return run_worker("trl_side", bench.job(case, file, **changes), bench_launcher(bench, "trl_side"))


def measure(bench: Bench, case: Case, file: Path, trl: Settings) -> tuple[list[Measured], list[Measured]]:
    """Both sides in turn, each time in a fresh process."""
    own: list[Measured] = []
    theirs: list[Measured] = []
    for _ in range(bench.preset.repeats):
        for module, settings, results in (("trl_side", trl, theirs), ("ours", bench.ours(), own)):
            job = bench.job(case, file, settings=settings)
            results.append(Measured(**run_worker(module, job, bench_launcher(bench, module))))
    return own, theirs


def bench_launcher(bench: Bench, module: str) -> list[str] | None:
    """How several workers start: each side with accelerate; TRL with the ZeRO-3 configuration that it ships."""
    if bench.preset.workers == 1:
        return None
    start = ["accelerate", "launch", "--num_processes", str(bench.preset.workers)]
    if module == "trl_side":
        from importlib.util import find_spec

        origin = find_spec("trl")
        assert origin is not None and origin.origin is not None
        return [*start, "--config_file", str(Path(origin.origin).parent / "accelerate_configs" / "zero3.yaml")]
    return [*start, *(["--multi_gpu"] if torch.cuda.is_available() else ["--cpu"])]


def summary(runs: list[Measured], pairs: list[WordPair], settings: Settings) -> dict[str, Any]:
    """Medians over the fresh processes of one side."""
    seconds = statistics.median(run.seconds for run in runs)
    passes = [run.reference_seconds for run in runs if run.reference_seconds is not None]
    reference = statistics.median(passes) if passes else None
    return {
        "settings": settings,
        "pairs_per_second": len(pairs) / seconds,
        "tokens_per_second": sum(pair.content for pair in pairs) / seconds,
        "computed_tokens": runs[0].computed_tokens,
        "peak_gib": statistics.median(run.peak_gib - run.baseline_gib for run in runs),
        "reference_seconds_per_pair": reference and reference / len(pairs),
        "reference_share": reference and reference / seconds,
        "overhead": runs[0].overhead,
        "seconds": seconds,
        "spread": (max(run.seconds for run in runs) - min(run.seconds for run in runs)) / seconds,
    }


def ratios(result: dict[str, Any]) -> dict[str, float]:
    own, theirs = result["ours"], result["trl"]
    return {
        "ratio": own["pairs_per_second"] / theirs["pairs_per_second"],
        "memory_ratio": own["peak_gib"] / theirs["peak_gib"],
    }


def utilisation(bench: Bench, shape: Shape, pairs: list[WordPair], result: dict[str, Any]) -> dict[str, float] | None:
    """Needed operations per second over the measured matrix rate, for both sides; full fine-tuning on GPUs only, since
    the formula counts a backward for every weight."""
    if bench.matrix_rate is None or shape.adapter != "none":
        return None
    needed = sum(shape.flops(group) for group in files.by_prompt(pairs))
    rate = bench.matrix_rate * bench.preset.workers
    return {side: needed / result[side]["seconds"] / rate for side in ("ours", "trl")}


def explain(bench: Bench, case: Case, result: dict[str, Any]) -> list[dict[str, Any]]:
    """The factors that `ratio` is made of, with the residual: what none of them explains."""
    settings = {**bench.ours(), "trl_batch_size": result["trl"]["settings"]["batch_size"]}
    file = bench.folder / f"{case.shape}-{case.profile}.jsonl"
    job = bench.job(case, file, settings=settings, epochs=bench.preset.repeats, warmup_epochs=0)
    seconds: dict[str, float] = run_worker("causes", job)
    names, times = list(seconds), list(seconds.values())
    both = result["trl"]["settings"]["precompute"]
    causes: list[dict[str, Any]] = [
        {"cause": name, "factor": after / before, "counts": not (name == "reference" and both)}
        for name, before, after in zip(names[1:], times, times[1:], strict=False)
    ]
    explained = math.prod(cause["factor"] for cause in causes if cause["counts"])
    return [*causes, {"cause": "residual", "factor": result["ratio"] / explained, "counts": True}]


def geometric_mean(values: list[float]) -> float:
    return math.exp(statistics.fmean(math.log(value) for value in values))
