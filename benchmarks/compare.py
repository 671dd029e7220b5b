"""This project against TRL's DPOTrainer: same model, same pairs, same precision, same optimizer, same global batch.

    python benchmarks/compare.py preset=cpu|gpu1|node8 [out=results.json] [profiles=hh,four] [shapes=...] [pairs=...]
                                 [repeats=...] [causes=false] [threads=...] [data=...] [picture=results.png]

Needs `pip install -e ".[bench]"`. TRL runs at its best: precomputed reference, gradient checkpointing and batch size
are searched first. Every measurement is a process of its own, both sides in turn; medians. Nothing is cut, dropout
is off, nothing is logged, evaluated or saved. First both sides must give the same loss on the same pairs, and each
process must have trained on the same token ids. Presets, shapes and lengths: benchmarks/comparison/.
"""

import json
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # from the checkout, installed or not

from comparison import arguments, cases, machine, report

from dpo.log import setup_logging


def main(words: list[str]) -> int:
    if {"-h", "--help"} & set(words):
        sys.stdout.write(__doc__ or "")
        return 0
    try:
        asked = arguments.parse(words)
        preset = arguments.chosen(asked)
    except arguments.ArgumentError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if find_spec("trl") is None:
        sys.stderr.write('TRL is not installed: pip install -e ".[bench]" -c constraints.txt\n')
        return 2
    setup_logging(is_main=False)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="compare-") as folder:
        bench = cases.Bench(
            preset=preset,
            folder=Path(folder),
            data=asked.data,
            threads=asked.threads,
            matrix_rate=machine.matrix_rate(),
        )
        results = {
            "preset": asked.preset,
            **machine.environment(asked.threads),
            "matrix_rate": bench.matrix_rate,
            **compare(bench, asked.causes),
        }
    results["seconds"] = time.perf_counter() - start
    report.end(results, bench.say)
    if asked.out:
        asked.out.write_text(json.dumps(results, indent=2) + "\n")
    if asked.picture:
        from comparison.picture import draw

        draw(results, asked.picture)
    return 0


def compare(bench: cases.Bench, with_causes: bool) -> dict[str, Any]:
    """All cases of the preset, each reported as soon as it is there. Raises Disagreement, WorkerError."""
    checks = {shape: cases.check_loss(bench, shape) for shape in bench.preset.checked}
    report.checks(checks, bench.say)
    done = []
    for case in bench.preset.cases:
        try:
            result = cases.run_case(bench, case)
        except FileNotFoundError as error:
            bench.say(f"\n{case.name}: left out, {error}\n")
            continue
        explained = bench.preset.explained
        if with_causes and (explained is None or case.name in explained):
            result["causes"] = cases.explain(bench, case, result)
        report.case(result, bench.say)
        done.append(result)
    return {
        "checks": checks,
        "cases": done,
        "ratio": cases.geometric_mean([result["ratio"] for result in done]),
        "memory_ratio": cases.geometric_mean([result["memory_ratio"] for result in done]),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
