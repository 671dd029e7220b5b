"""The columns of all pairs while they are measured: each read once, and the few that follow from several."""

from functools import cache, cached_property

import numpy as np

from dpo.data.findings.columns import Columns
from dpo.data.findings.marks import Mark

# Odd constants with bits everywhere: prompt, chosen and rejected become one number in which their order counts.
_MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)


class Table:
    """Arrays over all pairs, [n] each. Features and lengths by name: table["chosen_marks"], table["chosen_ids"]."""

    def __init__(self, columns: Columns):
        self.columns = columns
        self._column, self._lengths = cache(columns.column), cache(columns.lengths)

    def __len__(self) -> int:
        return len(self.columns)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._lengths(name) if name.endswith("_ids") else self._column(name)

    @cached_property
    def paired(self) -> np.ndarray:
        """Pairs with both answers."""
        return (self["chosen_ids"] > 0) & (self["rejected_ids"] > 0)

    @cached_property
    def longer_chosen(self) -> np.ndarray:
        """1 where the chosen answer has more tokens, -1 where fewer, 0 where as many."""
        return np.sign(self["chosen_ids"].astype(np.int64) - self["rejected_ids"].astype(np.int64))

    def has(self, side: str, mark: Mark) -> np.ndarray:
        """Whether the answer has a mark; a missing answer has none."""
        return (self[f"{side}_marks"] & mark) != 0

    def only(self, side: str, mark: Mark) -> np.ndarray:
        """Whether this answer has a mark that the other lacks."""
        return self.paired & self.has(side, mark) & ~self.has(other(side), mark)

    @cached_property
    def twin(self) -> np.ndarray:
        """Number of a pair with the same prompt and the same answers the other way round (apart from formatting); -1
        where there is none."""
        prompt, chosen, rejected = self["prompt"], self["chosen_key"], self["rejected_key"]
        forward = prompt * _MIX[0] + chosen * _MIX[1] + rejected * _MIX[2]
        backward = prompt * _MIX[0] + rejected * _MIX[1] + chosen * _MIX[2]
        order = np.argsort(forward)
        place = np.minimum(np.searchsorted(forward[order], backward), len(self) - 1)
        found = order[place]
        sound = (forward[found] == backward) & self.paired & (chosen != rejected)
        return np.where(sound, found, -1)

    @cached_property
    def repeated(self) -> np.ndarray:
        """Whether an earlier pair is the same, letter by letter."""
        return ~first_of(self["id"])


def other(side: str) -> str:
    return "rejected" if side == "chosen" else "chosen"


def first_of(values: np.ndarray) -> np.ndarray:
    """Whether no earlier value is the same."""
    result = np.zeros(len(values), bool)
    result[np.unique(values, return_index=True)[1]] = True
    return result
