"""Pairs that stand in the data more than once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(kw_only=True, slots=True)
class Duplicates:
    """Row numbers, each list in ascending order."""

    kept: NDArray[np.int64]  # the first row of every pair
    dropped: NDArray[np.int64]  # [d] the others
    first: NDArray[np.int64]  # [d] the row in `kept` that holds the same pair


def find_duplicates(ids: NDArray[np.uint64]) -> Duplicates:
    """Tell the first row of every id from the later ones. `ids` [n]: content hashes of prompt and both answers."""
    order = np.argsort(ids, kind="stable")
    ordered = ids[order]
    repeats = np.flatnonzero(ordered[1:] == ordered[:-1]) + 1  # places in `order`: of all but the first of each id
    firsts = np.searchsorted(ordered, ordered[repeats])
    dropped, first = order[repeats], order[firsts]
    by_row = np.argsort(dropped)
    is_first = np.ones(len(ids), bool)
    is_first[dropped] = False
    return Duplicates(kept=np.flatnonzero(is_first), dropped=dropped[by_row], first=first[by_row])
