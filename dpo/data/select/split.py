"""Which prompts are held out: decided by the hash of the prompt, never by order or seed."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HASH_RANGE = 2.0**64


@dataclass(kw_only=True, slots=True)
class Split:
    """Row numbers, each list in ascending order; together all rows."""

    train: NDArray[np.int64]
    held_out: NDArray[np.int64]


def split_rows(prompts: NDArray[np.uint64], fraction: float) -> Split:
    """Hold out about `fraction` of the *prompts*, all rows of one prompt on the same side. `prompts` [n]: hashes.

    A prompt is held out when its hash, as a number in [0, 1), is below `fraction`. With `fraction` > 0 and at least two
    prompts neither side is left empty: the prompt with the smallest hash is held out, the one with the largest is not.
    """
    held = prompts / HASH_RANGE < fraction
    if fraction > 0 and len(prompts):
        smallest, largest = prompts.min(), prompts.max()
        held = (held | (prompts == smallest)) & (prompts != largest)  # of a single prompt nothing: it is trained on
    return Split(train=np.flatnonzero(~held), held_out=np.flatnonzero(held))
