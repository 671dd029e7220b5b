"""This project alone on one worker and on two, with the same threads each."""

import statistics
import sys
from typing import Any

from comparison import pairs as files
from comparison.cases import Bench, require_same_tokens
from comparison.jobs import Measured, run_worker
from comparison.presets import Case
from comparison.shapes import SHAPES

LAUNCHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


def scaling(bench: Bench, case: Case) -> dict[str, Any]:
    """Pairs per second of one worker and of two, and their ratio. One thread each: two workers on two cores then have
    twice of everything that one has."""
    made = files.case_pairs(case, SHAPES[case.shape].vocabulary, bench.data)
    file = files.write(made, bench.folder / "scaling.jsonl")
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(bench.preset.repeats):
        for workers, found in seconds.items():
            job = bench.job(case, file, workers=workers, threads=1, settings=bench.ours())
            measured = Measured(**run_worker("ours", job, LAUNCHER if workers > 1 else None))
            require_same_tokens(made, measured)
            found.append(measured.seconds)
    speed = {workers: len(made) / statistics.median(found) for workers, found in seconds.items()}
    return {"case": case.name, "one": speed[1], "two": speed[2], "ratio": speed[2] / speed[1]}
