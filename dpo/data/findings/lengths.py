"""How long prompts and answers are, and what length alone says about which answer is chosen."""

from dataclasses import dataclass

import numpy as np

from dpo.data.findings.table import Table

SIDES = ("prompt", "chosen", "rejected")
BINS = 32
FOLDS = 5
PAIRS_PER_CELL = 100  # of the length-only rule: with fewer a cell learns noise
RATIOS = (1.0, 1.1, 1.25, 1.5, 2.0, 3.0)  # longer / shorter answer, where the steps of `by_ratio` begin


@dataclass(kw_only=True, slots=True)
class Spread:
    """A distribution of lengths, in tokens."""

    mean: float
    p5: float
    p50: float
    p95: float
    p99: float
    max: int
    total: int


@dataclass(kw_only=True, slots=True)
class Histogram:
    """Counts between `edges`; what lies beyond the last edge is in the last bin, before the first in the first."""

    edges: list[float]  # [bins + 1]
    counts: dict[str, list[int]]  # series -> [bins]


@dataclass(kw_only=True, slots=True)
class Step:
    """Pairs whose longer answer is `at_least` times as long as the shorter, up to the next step."""

    at_least: float
    pairs: int
    longer_chosen: float | None  # share; None without pairs


@dataclass(kw_only=True, slots=True)
class LengthBias:
    """Whether length tells which answer is chosen. Shares are of the pairs with two answers."""

    pairs: int
    longer: float  # share in which the longer answer is chosen
    equal: float
    shorter: float
    rule_accuracy: float  # of a rule that sees the two lengths only, on pairs that it has not learnt from
    rule_error: float  # its standard error
    chosen_mean: float  # tokens
    rejected_mean: float
    by_ratio: list[Step]


def spread(lengths: np.ndarray) -> Spread:
    p5, p50, p95, p99 = np.percentile(lengths, [5, 50, 95, 99]).tolist()
    return Spread(
        mean=float(lengths.mean()), p5=p5, p50=p50, p95=p95, p99=p99, max=int(lengths.max()), total=int(lengths.sum())
    )


def spreads(table: Table) -> dict[str, Spread]:
    """Of prompt, chosen and rejected; answers that are missing are left out, and a side that is always missing."""
    lengths = {side: table[f"{side}_ids"] for side in SIDES}
    return {side: spread(found) for side, values in lengths.items() if len(found := values[values > 0])}


def histogram(series: dict[str, np.ndarray], low: float | None = None) -> Histogram:
    """Equal bins over what 99 % of the values span; `low`: the first edge. Whole edges where the values allow it."""
    values = np.concatenate(list(series.values()))
    start, end = np.percentile(values, [0.5, 99.5]).tolist()
    start = start if low is None else low
    width = max((end - start) / BINS, 1e-9)
    if np.issubdtype(values.dtype, np.integer):
        start, width = float(np.floor(start)), float(np.ceil(max(width, 1)))
    edges = start + width * np.arange(BINS + 1)
    # Values are moved by half a bin at most: np.histogram leaves out what lies beyond the edges.
    counts = {
        name: np.histogram(np.clip(found, edges[0], edges[-1] - width / 2), edges)[0].tolist()
        for name, found in series.items()
    }
    return Histogram(edges=edges.tolist(), counts=counts)


def length_bias(table: Table) -> LengthBias | None:
    """None where no pair has two answers."""
    paired = table.paired
    if not paired.any():
        return None
    chosen, rejected = (table[f"{side}_ids"][paired].astype(np.int64) for side in ("chosen", "rejected"))
    sign = table.longer_chosen[paired]
    accuracy = _rule_accuracy(chosen, rejected, table["prompt"][paired])
    count = len(sign)
    return LengthBias(
        pairs=count,
        longer=float((sign > 0).mean()),
        equal=float((sign == 0).mean()),
        shorter=float((sign < 0).mean()),
        rule_accuracy=accuracy,
        rule_error=float(np.sqrt(accuracy * (1 - accuracy) / count)),
        chosen_mean=float(chosen.mean()),
        rejected_mean=float(rejected.mean()),
        by_ratio=_by_ratio(chosen, rejected, sign),
    )


def _rule_accuracy(chosen: np.ndarray, rejected: np.ndarray, prompts: np.ndarray) -> float:
    """Accuracy of a decision table on lengths, cross-validated; pairs of equal lengths count one half.

    Pairs are sorted into cells by how many times longer the longer answer is and by how long it is; in each cell the
    rule says what most pairs of four fifths of the prompts say there, "the longer" or "the shorter", and is tried on
    the pairs of the last fifth.
    """
    longer, shorter = np.maximum(chosen, rejected), np.minimum(chosen, rejected)
    sign = np.sign(chosen - rejected)
    cells = max(1, len(sign) // PAIRS_PER_CELL)
    by_size = min(4, max(1, int(np.sqrt(cells))))
    size = _quantile_bin(longer, by_size)
    ratio = _quantile_bin(longer / shorter, min(10, cells // by_size))
    cell = size * 10 + ratio
    fold = prompts % np.uint64(FOLDS)
    right = 0.0
    for held in range(FOLDS):
        out = fold == held
        votes = np.bincount(cell[~out], weights=sign[~out], minlength=40)
        says = np.where(votes == 0, 1, np.sign(votes))[cell[out]]
        right += float((0.5 + 0.5 * says * sign[out]).sum())
    return right / len(sign)


def _quantile_bin(values: np.ndarray, count: int) -> np.ndarray:
    """In which of `count` bins with about as many members each value falls, from 0."""
    bounds = np.quantile(values, np.arange(1, count) / count)
    return np.searchsorted(bounds, values, side="right").astype(np.int8)


def _by_ratio(chosen: np.ndarray, rejected: np.ndarray, sign: np.ndarray) -> list[Step]:
    ratio = np.maximum(chosen, rejected) / np.minimum(chosen, rejected)
    steps = []
    for low, high in zip(RATIOS, (*RATIOS[1:], np.inf), strict=True):
        inside = (ratio >= low) & (ratio < high) & (sign != 0)
        share = float((sign[inside] > 0).mean()) if inside.any() else None
        steps.append(Step(at_least=low, pairs=int(inside.sum()), longer_chosen=share))
    return steps
