"""Digests of token ids: of a prompt, which pairs may share, and of a response in its context, by which the value of the
reference is found again. The same in every process and on every machine."""

from array import array
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from dpo.data.pair import Spans

BYTES = 16  # of a response's key: 2^64 responses before two of them are likely to share one
GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: steps of splitmix64


def prompt_key(prompt_ids: list[int]) -> int:
    """A number of 64 bits: of a million prompts two share theirs with a probability of 3e-8."""
    return int.from_bytes(blake2b(array("i", prompt_ids).tobytes(), digest_size=8).digest(), "little")


def response_keys(prompt_ids: list[int], responses: Iterable[tuple[list[int], Spans]]) -> Iterator[bytes]:
    """One per response (its token ids, and what of them is not scored): blake2b-128 over the number of prompt tokens,
    the prompt and the response, each as int32, and behind a -1 what of it is not scored. 9 microseconds for 200 + 250
    tokens."""
    prompt = blake2b(array("i", [len(prompt_ids), *prompt_ids]).tobytes(), digest_size=BYTES)
    for ids, context in responses:
        whole = prompt.copy()
        whole.update(array("i", ids).tobytes())
        if context:
            whole.update(array("i", [-1, *chain.from_iterable(context)]).tobytes())
        yield whole.digest()


def cut_keys(
    keys: NDArray[np.bytes_], kept: NDArray[np.integer], seeds: NDArray[np.uint64] | None = None
) -> NDArray[np.bytes_]:
    """[n] keys of the first `kept` tokens of the responses with these `keys`, without reading them; `seeds` [n]: behind
    other prompts, with these keys. Both are random numbers already, so that two of the results are equal no sooner."""
    mixed = kept.astype(np.uint64) * np.uint64(2 * GOLDEN % 2**64) + (np.uint64(0) if seeds is None else seeds)
    lanes = np.stack([_mixed(mixed), _mixed(mixed + np.uint64(GOLDEN))], -1)  # [n, 2 halves of a key]
    halves = np.ascontiguousarray(keys).view("<u8").reshape(-1, 2)
    return (halves ^ lanes).view(f"S{BYTES}")[:, 0]


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's output function (Steele et al. 2014, doi:10.1145/2660193.2660195): neighbours become unlike."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
