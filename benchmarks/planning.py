"""Grouping, planning and packing of many pairs on one CPU core, without a model.

    python benchmarks/planning.py [--pairs 1000000] [--workers 8] [--out planning.json]

Log-normal lengths with medians of 150 prompt and 250 answer tokens. Prints the seconds of each part and how full the
rows are; collating (token lists to tensors) is timed over 100 steps and not part of the total, as it happens while the
model computes.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # from the checkout, installed or not

from dpo.data.collate import collate
from dpo.data.groups import group_pairs
from dpo.data.pair import TokenizedPair
from dpo.data.plan import DataPlan
from dpo.data.rows import MicroBatches, spread_groups

COLLATED_STEPS = 100


def main() -> None:
    arguments = parse()
    pairs = random_pairs(arguments.pairs)
    seconds = {}
    start = time.perf_counter()
    groups = group_pairs(pairs, most=arguments.batch)
    seconds["group"] = time.perf_counter() - start
    start = time.perf_counter()
    plan = DataPlan(groups, seed=0, global_batch_size=arguments.batch)
    n_steps = plan.total_steps(1, None)
    seconds["plan"] = time.perf_counter() - start
    micro = MicroBatches(layout="packed", max_tokens=arguments.tokens, max_pairs=None, world_size=arguments.workers)
    walked = walk(plan, n_steps, micro)
    seconds["plan"] += walked.plan_seconds
    seconds["pack"] = walked.pack_seconds
    result = {
        "pairs": arguments.pairs,
        **{f"{name}_seconds": value for name, value in seconds.items()},
        "total_seconds": sum(seconds.values()),
        "collate_seconds_per_step": walked.collate_seconds / min(COLLATED_STEPS, n_steps),
        "filled": walked.computed / (walked.rows * arguments.tokens),
        "balance": walked.computed / walked.possible,
    }
    for name, value in result.items():
        sys.stdout.write(f"{name:<26}{value:>12,.3f}\n")
    if arguments.out:
        Path(arguments.out).write_text(json.dumps(result, indent=2))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--batch", type=int, default=128, help="pairs per step")
    parser.add_argument("--tokens", type=int, default=8192, help="most tokens of one forward pass")
    parser.add_argument("--out", help="write the results as JSON")
    return parser.parse_args()


def random_pairs(count: int) -> list[TokenizedPair]:
    """Pairs whose token lists are slices of one list: a million of their own would need 20 GB."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 2**15, 8192).tolist()
    prompts = np.clip(rng.lognormal(np.log(150), 0.9, count), 5, 1024).astype(int).tolist()
    answers = np.clip(rng.lognormal(np.log(250), 0.7, (count, 2)), 2, 1024).astype(int).tolist()
    starts = rng.integers(0, 4096, (count, 3)).tolist()
    return [
        TokenizedPair(
            prompt_ids=tokens[a : a + p],
            chosen_ids=tokens[b : b + c],
            rejected_ids=tokens[d : d + r],
            source=str(i),
            id=f"{i:016x}",
        )
        for i, (p, (c, r), (a, b, d)) in enumerate(zip(prompts, answers, starts, strict=True))
    ]


@dataclass(kw_only=True, slots=True)
class Walked:
    """One epoch, step after step and each forgotten, as a run goes through it."""

    plan_seconds: float = 0.0
    pack_seconds: float = 0.0
    collate_seconds: float = 0.0
    rows: int = 0
    computed: int = 0  # tokens
    possible: int = 0  # tokens that the workers could have computed while the slowest of them was busy


def walk(plan: DataPlan, n_steps: int, micro: MicroBatches) -> Walked:
    walked = Walked()
    for number in range(n_steps):
        start = time.perf_counter()
        step = plan.step(number)
        planned = time.perf_counter()
        workers = spread_groups([plan.groups[g] for g in step.groups], micro)
        packed = time.perf_counter()
        walked.plan_seconds += planned - start
        walked.pack_seconds += packed - planned
        for side_by_side in zip(*workers, strict=True):
            costs = [sum(group.row_tokens for group in row) for row in side_by_side]
            walked.rows += len(costs)
            walked.computed += sum(costs)
            walked.possible += len(costs) * max(costs)
        if number < COLLATED_STEPS:
            start = time.perf_counter()
            for row in workers[0]:
                collate(row, "packed")
            walked.collate_seconds += time.perf_counter() - start
    return walked


if __name__ == "__main__":
    main()
