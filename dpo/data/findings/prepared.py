"""Prepared pairs as findings read them: training and held-out pairs behind each other."""

from bisect import bisect_right
from itertools import accumulate

import numpy as np

from dpo.data.findings.columns import Account
from dpo.data.findings.measure import Decode, Measured, measure
from dpo.data.pair import TokenizedPair
from dpo.data.sets import DataSets
from dpo.data.store.pairs import PairView


class Joined:
    """Several views behind each other, as `Columns`."""

    def __init__(self, views: list[PairView]):
        self._views = views
        self._begins = [0, *accumulate(map(len, views))]
        self.names = list(dict.fromkeys(name for view in views for name in view.store.names))

    def __len__(self) -> int:
        return self._begins[-1]

    def column(self, name: str) -> np.ndarray:
        return np.concatenate([self._part(view, name) for view in self._views])

    def lengths(self, name: str) -> np.ndarray:
        return np.concatenate([view.lengths(name) for view in self._views])

    def __getitem__(self, number: int, /) -> TokenizedPair:
        part = bisect_right(self._begins, number) - 1
        return self._views[part][number - self._begins[part]]

    def _part(self, view: PairView, name: str) -> np.ndarray:
        """Stores count their data sets each for itself."""
        values = view.column(name)
        return (
            np.array([self.names.index(own) for own in view.store.names], np.uint16)[values]
            if name == "dataset"
            else values
        )


def columns_of(sets: DataSets) -> Joined:
    """Every pair once, also where a mixture repeats it."""
    return Joined([PairView(store=view.store, rows=np.unique(view.rows)) for view in (sets.train, sets.held_out)])


def measure_sets(sets: DataSets, decode: Decode) -> Measured:
    """All measures of a run's data; `decode`: without special tokens."""
    columns = columns_of(sets)
    lengths = sets.lengths()
    account = Account(
        names=columns.names,
        rows_read=sets.rows_read,
        limits=sets.limits,
        whole_lengths=np.repeat(list(lengths), list(lengths.values())),
        rejects=sets.rejects.counts,
        dropped=sets.left_out.counts,
    )
    return measure(columns, account, decode)
