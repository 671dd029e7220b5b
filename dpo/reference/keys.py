"""The key of a response: a digest of its tokens in their context, whatever row or micro-batch it is computed in."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from dpo.data import keys
from dpo.data.batch import PromptGroup
from dpo.data.keys import BYTES

Keys = NDArray[np.bytes_]
"""[N] of type S16: sorted and searched as bytes."""


def response_keys(groups: Iterable[PromptGroup]) -> Keys:
    """The keys of all responses of all groups, in their order (see dpo/data/keys.py)."""
    digests = (
        key
        for group in groups
        for key in keys.response_keys(group.prompt_ids, zip(group.responses, group.contexts, strict=True))
    )
    return np.frombuffer(b"".join(digests), dtype=f"S{BYTES}")
