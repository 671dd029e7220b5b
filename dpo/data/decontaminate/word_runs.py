"""Text as runs of words, each a number: what two texts have in common whatever their case and punctuation."""

import hashlib
import re
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

RUN = 8  # words, as in Tulu 3's decontamination (Lambert et al. 2024, arXiv:2411.15124, section 3.2)
LEAST = 3  # a text of fewer words is a label or a number, not a question
# Chinese and Japanese put no blanks between words: each of their characters counts as one.
WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]|[^\W_\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+"
)
FACTOR = 0x9E3779B97F4A7C15  # odd, so that no power of it loses bits modulo 2**64
POWERS = np.array([pow(FACTOR, power, 2**64) for power in range(RUN)], dtype=np.uint64)


def word_runs(text: str) -> NDArray[np.uint64]:
    """A hash of every run of 8 words, in order. A shorter text of at least 3 words is one run, itself."""
    words = np.array([_hash(word) for word in WORD.findall(text.lower())], dtype=np.uint64)
    if len(words) < LEAST:
        return words[:0]
    length = min(len(words), RUN)
    runs = np.full(len(words) - length + 1, length, dtype=np.uint64)
    for offset in range(length):
        runs += POWERS[offset] * words[offset : offset + len(runs)]
    return runs


@lru_cache(maxsize=2**17)
def _hash(word: str) -> int:
    """Python's own `hash` of a text differs from process to process."""
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
