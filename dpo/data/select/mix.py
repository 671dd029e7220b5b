"""How often the pairs of each source are seen in an epoch.

The prompt decides, so that ranked answers stay together, and its hash does, so that a larger share holds the smaller
one, whatever the order of the data.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Hashes = NDArray[np.uint64]


@dataclass(kw_only=True, slots=True)
class Share:
    """What one source gives to an epoch: every pair `weight` times, or `count` pairs in all."""

    weight: float = 1.0
    count: int | None = None


def epoch_passes(prompts: Hashes, sources: NDArray[np.integer], shares: Sequence[Share]) -> list[Rows]:
    """The rows of every pass of an epoch, ascending: a row that stands in k of them is seen k times.

    `prompts` [n]: hash of each row's prompt. `sources` [n]: which of `shares` the row belongs to. Rows of one prompt
    share a group within a pass; a repetition is a group of its own, in another step of the epoch. Every weight above
    0 gives at least one prompt; a source without rows gives none.
    """
    parts: list[list[Rows]] = []
    for number, share in enumerate(shares):
        rows = np.flatnonzero(sources == number)
        for place, chosen in enumerate(_source_passes(rows, _mixed(prompts[rows]), share) if len(rows) else []):
            parts += [[]] if place == len(parts) else []
            parts[place].append(chosen)
    return [np.sort(np.concatenate(chosen)) for chosen in parts]


def mix_notes(names: Sequence[str], pairs: Rows, seen: Rows) -> list[str]:
    """For the log: of every source its name, its pairs, how many an epoch sees of them, and their share of the mix."""
    total = max(1, int(seen.sum()))
    return [
        f"data: mix: {name}: {count} training pairs, {times} per epoch, {100 * times / total:.1f} % of it"
        for name, count, times in zip(names, pairs, seen, strict=True)
    ]


def _source_passes(rows: Rows, keys: Hashes, share: Share) -> list[Rows]:
    if share.count is not None:
        full, rest = divmod(share.count, len(rows))
        some = rows[np.argsort(keys, kind="stable")[:rest]]
    else:
        full = int(share.weight)
        some = rows[_part_of_prompts(keys, share.weight - full, at_least=0 if full else 1)]
    return [rows] * full + ([some] if len(some) else [])


def _part_of_prompts(keys: Hashes, part: float, at_least: int) -> NDArray[np.bool_]:
    """Which rows belong to the `part` of the prompts with the smallest keys."""
    distinct = np.unique(keys)
    wanted = max(at_least, round(part * len(distinct)))
    if not wanted:
        return np.zeros(len(keys), dtype=bool)
    return keys <= distinct[wanted - 1]


def _mixed(hashes: Hashes) -> Hashes:
    """Other hashes of the same prompts: the smallest of the given ones are held out already (split.py).

    The finalizer of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators").
    """
    mixed = hashes + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
