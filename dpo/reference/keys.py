"""The key of a response: a digest of its tokens in their context, whatever row or micro-batch it is computed in."""

from array import array
from collections.abc import Iterable
from hashlib import blake2b
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from dpo.data.batch import PromptGroup

BYTES = 16  # 2^64 responses before two of them are likely to share a key
Keys = NDArray[np.bytes_]
"""[N] of type S16: sorted and searched as bytes."""


def response_keys(groups: Iterable[PromptGroup]) -> Keys:
    """The keys of all responses of all groups, in their order: blake2b-128 over the number of prompt tokens, the prompt
    and the response, each as int32, and behind a -1 what of it is not scored. 9 microseconds for 200 + 250 tokens."""
    digests = bytearray()
    for group in groups:
        prompt = blake2b(array("i", [len(group.prompt_ids), *group.prompt_ids]).tobytes(), digest_size=BYTES)
        for response, context in zip(group.responses, group.contexts, strict=True):
            whole = prompt.copy()
            whole.update(array("i", response).tobytes())
            if context:
                whole.update(array("i", [-1, *chain.from_iterable(context)]).tobytes())
            digests += whole.digest()
    return np.frombuffer(bytes(digests), dtype=f"S{BYTES}")
