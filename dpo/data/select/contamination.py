"""Rows whose prompt a benchmark holds too: counted by prompt, and left out where that is asked for."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WORST = 3  # prompts that are shown
MOSTLY = 0.5  # of a question: above it Tulu 3 removes the prompt (Lambert et al. 2024, arXiv:2411.15124, section 3.2)


@dataclass(kw_only=True, slots=True)
class Contamination:
    """Row numbers, ascending but for `worst`, and numbers of different prompts."""

    kept: NDArray[np.int64]
    dropped: NDArray[np.int64]
    worst: NDArray[np.int64]  # the first rows of the prompts that hold most of a question, the worst prompt first
    prompts: int
    affected: int  # share anything with the benchmark
    mostly: int  # hold at least half of a question
    left_out: int


def find_contamination(prompts: NDArray[np.uint64], shares: NDArray[np.floating], drop: float | None) -> Contamination:
    """`prompts` [n]: hash of each row's prompt. `shares` [n]: of a benchmark's question that the prompt holds, 0 for
    nothing. `drop`: the share from which on rows are left out; None: they are only counted."""
    left_out = np.zeros(len(shares), dtype=bool) if drop is None else shares >= drop
    _, first = np.unique(prompts, return_index=True)
    first = np.sort(first)
    each = shares[first]
    worst = first[np.argsort(-each, kind="stable")][: min(WORST, np.count_nonzero(each))]
    return Contamination(
        kept=np.flatnonzero(~left_out),
        dropped=np.flatnonzero(left_out),
        worst=worst,
        prompts=len(first),
        affected=int(np.count_nonzero(each)),
        mostly=int(np.count_nonzero(each >= MOSTLY)),
        left_out=int(np.count_nonzero(left_out[first])),
    )
