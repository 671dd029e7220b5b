"""The key of a response: a digest of its tokens in their context, whatever row or micro-batch it is computed in."""

from array import array
from collections.abc import Iterable
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from dpo.data.batch import PromptGroup

BYTES = 16  # 2^64 responses before two of them are likely to share a key
Keys = NDArray[np.bytes_]
"""[N] of type S16: sorted and searched as bytes."""


def response_keys(groups: Iterable[PromptGroup]) -> Keys:
    """The keys of all responses of all groups, in their order: blake2b-128 over the number of prompt tokens, the prompt
    and the response (whose every token is scored), each as int32. 9 microseconds for 200 + 250 tokens."""
    digests = bytearray()
    for group in groups:
        prompt = blake2b(array("i", [len(group.prompt_ids), *group.prompt_ids]).tobytes(), digest_size=BYTES)
        for response in group.responses:
            whole = prompt.copy()
            whole.update(array("i", response).tobytes())
            digests += whole.digest()
    return np.frombuffer(bytes(digests), dtype=f"S{BYTES}")
