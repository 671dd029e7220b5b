"""What measuring reads: one numpy column per feature and per list of tokens, and single pairs to be shown."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from dpo.data.pair import TokenizedPair
from dpo.data.text.limits import TokenLimits


class Columns(Protocol):
    """Prepared pairs, column by column: all of them, training and held-out, in the order of the data.

    Columns: id, prompt (uint64), dataset (uint16), margin (float32, NaN: none), cut (uint8, 0: whole), and every one of
    `features.DTYPES`.
    Lengths: of prompt_ids, chosen_ids, rejected_ids.
    """

    def __len__(self) -> int: ...

    def column(self, name: str) -> np.ndarray:
        """[n], one value per pair."""

    def lengths(self, name: str) -> np.ndarray:
        """[n], how many tokens the pair has in this list."""

    def __getitem__(self, number: int, /) -> TokenizedPair:
        """One pair, for showing it."""


@dataclass(kw_only=True, slots=True)
class Account:
    """What became of the rows on their way to the columns."""

    names: list[str]  # of the data sets, as the column `dataset` counts them
    rows_read: int
    limits: TokenLimits
    whole_lengths: np.ndarray  # [kept + dropped pairs] tokens of prompt and longer answer before any limit
    rejects: dict[str, int] = field(default_factory=dict)  # reason -> bad rows
    dropped: dict[str, int] = field(default_factory=dict)  # reason -> sound rows left out on purpose
