"""How values are spread: counts in fixed bins, which add up over micro-batches and workers like every other sum.

Bins are symmetric about zero and a quarter of an octave wide, so that one set serves margins per token (0.01) and of
whole answers (20): from 2^-10 to 2^8 on either side, one bin around zero, the outermost without end.
"""

from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # those who only read what was counted start without torch
    from torch import Tensor

PER_OCTAVE, LOWEST, HIGHEST = 4, -10, 8  # exponents of 2
SIDE = PER_OCTAVE * (HIGHEST - LOWEST)
BINS = 2 * SIDE + 1
_POSITIVE = [2.0 ** (LOWEST + i / PER_OCTAVE) for i in range(SIDE + 1)]
EDGES = (*(-edge for edge in reversed(_POSITIVE)), *_POSITIVE)  # [BINS + 1]


def count(values: "Tensor") -> "Tensor":
    """Values of each bin: [BINS] float64, on the device of `values`; NaN counts nowhere. Nothing here waits."""
    values = values.double()
    octaves = values.abs().clamp(2.0 ** (LOWEST - 1), 2.0 ** (HIGHEST - 0.5 / PER_OCTAVE)).log2() - LOWEST
    steps = (octaves * PER_OCTAVE).floor().clamp(min=-1) + 1  # 0: around zero
    index = (SIDE + values.sign() * steps).nan_to_num(0)
    return values.new_zeros(BINS).index_add(0, index.long(), (~values.isnan()).double())


def quantiles(counts: list[float], shares: list[float]) -> list[float]:
    """Where these shares of the values lie below, linear within a bin: right to a bin's width, a fifth of the value.

    Empty counts give NaN.
    """
    total, reached = sum(counts), [0.0, *accumulate(counts)]
    if not total:
        return [float("nan")] * len(shares)
    found = []
    for share in shares:
        wanted = share * total
        at = next(i for i, n in enumerate(counts) if n and reached[i + 1] >= wanted)
        within = (wanted - reached[at]) / counts[at]
        found.append(EDGES[at] + within * (EDGES[at + 1] - EDGES[at]))
    return found


def by_bin(counts: list[float]) -> dict[str, int]:
    """The filled bins alone, for a record: number from -SIDE to SIDE -> values in it. Bin k > 0 holds values from
    2^(LOWEST + (k - 1) / 4) to 2^(LOWEST + k / 4), bin -k their negatives, bin 0 what is nearer to zero."""
    return {str(i - SIDE): int(n) for i, n in enumerate(counts) if n}


def with_edges(bins: dict[str, int]) -> tuple[list[float], list[int]]:
    """(edges [n + 1], counts [n]) from the first to the last filled bin, for those who draw them; ([], []) of none."""
    if not bins:
        return [], []
    first, last = min(map(int, bins)), max(map(int, bins))
    edges = EDGES[first + SIDE : last + SIDE + 2]
    return list(edges), [bins.get(str(k), 0) for k in range(first, last + 1)]
