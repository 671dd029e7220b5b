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


def step_for(sets: DataSets, most: int) -> int:
    """Every how many prompts are looked at for about `most` pairs."""
    return max(1, -(-(len(sets.train) + len(sets.held_out)) // most))


def columns_of(sets: DataSets, step: int = 1) -> Joined:
    """Every pair once, also where a mixture repeats it; of one in `step` prompts, with all of its pairs."""
    return Joined([_view(view, step) for view in (sets.train, sets.held_out)])


def _view(view: PairView, step: int) -> PairView:
    rows = np.unique(view.rows)
    if step > 1:  # by the hash's low bits: its high ones decide what is held out
        rows = rows[view.store.take("prompt", rows) % np.uint64(step) == 0]
    return PairView(store=view.store, rows=rows)


def measure_sets(sets: DataSets, decode: Decode, step: int = 1) -> Measured:
    """All measures of a run's data; `decode`: without special tokens. `step`: of one in so many prompts, with what was
    left out in proportion. Measuring holds some 330 bytes a pair."""
    columns = columns_of(sets, step)
    if not len(columns):  # few prompts with very many pairs
        return measure_sets(sets, decode)
    lengths = sets.lengths()
    account = Account(
        names=columns.names,
        rows_read=sets.rows_read,
        limits=sets.limits,
        whole_lengths=np.repeat(list(lengths), list(lengths.values()))[::step],
        rejects=sets.rejects.counts,
        dropped={reason: -(-count // step) for reason, count in sets.left_out.counts.items()},
    )
    return measure(columns, account, decode)
