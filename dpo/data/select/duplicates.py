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
    _, first, places = np.unique(ids, return_index=True, return_inverse=True)
    original = first[places].astype(np.int64)
    is_first = original == np.arange(len(ids))
    dropped = np.flatnonzero(~is_first)
    return Duplicates(kept=np.flatnonzero(is_first), dropped=dropped, first=original[dropped])
