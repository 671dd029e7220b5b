"""The questions of a benchmark, and how much of one a prompt holds."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpo.data.decontaminate.word_runs import word_runs
from dpo.data.pair import Message

SHOWN = 80  # characters of a question in messages


@dataclass(kw_only=True, slots=True)
class Overlap:
    """What a prompt and a benchmark have in common."""

    item: int  # number of the benchmark's text of which the prompt holds the largest share
    share: float  # of that text's runs of 8 words that the prompt holds, above 0


def prompt_texts(prompt: list[Message]) -> list[str]:
    """What a prompt says, turn by turn."""
    return [turn["content"] for turn in prompt if isinstance(turn.get("content"), str)]


class Benchmark:
    """All texts of the benchmark files, as sorted hashes of their runs of words: 12 bytes per run."""

    def __init__(self, texts: Iterable[tuple[str, str]]):
        """`texts`: (place, text). A run that stands in several belongs to the first: what every question of a
        benchmark begins with says nothing about any of them."""
        self.places: list[str] = []
        self.openings: list[str] = []
        runs = [self._add(place, text) for place, text in texts]
        owners = np.repeat(np.arange(len(runs), dtype=np.int32), [len(found) for found in runs])
        self._runs, first = np.unique(np.concatenate([np.empty(0, np.uint64), *runs]), return_index=True)
        self._owners: NDArray[np.int32] = owners[first]
        self._sizes = np.bincount(self._owners, minlength=len(runs))

    def __len__(self) -> int:
        return int(np.count_nonzero(self._sizes))

    def digest(self) -> str:
        """64 hexadecimal digits: over what `overlap` depends on."""
        return hashlib.sha256(self._runs.tobytes() + self._owners.tobytes()).hexdigest()

    def _add(self, place: str, text: str) -> NDArray[np.uint64]:
        self.places.append(place)
        self.openings.append(" ".join(text[: 2 * SHOWN].split())[:SHOWN])
        return word_runs(text)

    def overlap(self, texts: Iterable[str]) -> Overlap | None:
        """What `texts`, the turns of a prompt, share with the benchmark; None for nothing."""
        runs = np.unique(np.concatenate([np.empty(0, np.uint64), *(word_runs(text) for text in texts)]))
        if not len(self._runs) or not len(runs):
            return None
        places = np.minimum(np.searchsorted(self._runs, runs), len(self._runs) - 1)
        items, counts = np.unique(self._owners[places[self._runs[places] == runs]], return_counts=True)
        if not len(items):
            return None
        shares = counts / self._sizes[items]
        best = int(np.argmax(shares))
        return Overlap(item=int(items[best]), share=float(shares[best]))
