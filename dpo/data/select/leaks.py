"""Training rows whose prompt is held out too."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(kw_only=True, slots=True)
class Leaks:
    """Row numbers of the training side, each list in ascending order; together all of its rows."""

    kept: NDArray[np.int64]
    leaked: NDArray[np.int64]


def find_leaks(train: NDArray[np.uint64], held_out: NDArray[np.uint64]) -> Leaks:
    """Compare the prompt hashes of both sides."""
    leaked = np.isin(train, held_out)
    return Leaks(kept=np.flatnonzero(~leaked), leaked=np.flatnonzero(leaked))
