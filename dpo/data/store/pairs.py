"""Prepared pairs, read from disk when they are asked for: one by its number, or one column of all."""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import isnan
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dpo.data.pair import Spans, TokenizedPair
from dpo.data.store.columns import FIXED, KEY_TYPE, KEYS, PARTS, Record, fixed
from dpo.data.store.file import ArrowFile
from dpo.data.store.manifest import Manifest


class Pairs(Protocol):
    """Tokenized pairs in the order of the data, and single columns of all of them."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> TokenizedPair: ...

    def __iter__(self) -> Iterator[TokenizedPair]: ...

    def column(self, name: str) -> NDArray[Any]:
        """[n] of `columns.FIXED`, or `dataset`, or [n, 2] of `columns.KEYS`."""

    def take(self, name: str, numbers: NDArray[np.int64]) -> NDArray[Any]:
        """The same of these pairs alone."""

    def lengths(self, name: str) -> NDArray[np.int64]:
        """[n] how many entries a column of `columns.LISTS` has for each pair."""

    @property
    def supplied(self) -> bool:
        """Whether some pair brings its own reference log-probabilities."""

    @property
    def unpaired(self) -> bool:
        """Whether some pair has one answer only."""


@dataclass(kw_only=True, slots=True)
class Source:
    """One prepared source: a folder that is complete, and the name that its pairs go by."""

    folder: Path
    name: str
    label: str  # for the log: where it comes from
    manifest: Manifest


class PairStore:
    """The pairs of some sources behind each other. In memory there are 100 bytes per 1000 pairs; all else is read at
    the moment it is asked for, and not kept, so that the process stays as small as it is whatever the data."""

    def __init__(self, sources: list[Source]):
        self.sources = sources
        self._files = [
            (number, ArrowFile(source.folder / part.file))
            for number, source in enumerate(sources)
            for part in source.manifest.parts
        ]
        self._begins = [0, *accumulate(len(file) for _, file in self._files)]

    @property
    def names(self) -> list[str]:
        """Of the data sets, as the column `dataset` counts them."""
        return list(dict.fromkeys(source.name for source in self.sources))

    @property
    def supplied(self) -> bool:
        return any(source.manifest.tally.supplied for source in self.sources)

    @property
    def unpaired(self) -> bool:
        return any(source.manifest.tally.unpaired for source in self.sources)

    def __len__(self) -> int:
        return self._begins[-1]

    def __iter__(self) -> Iterator[TokenizedPair]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> TokenizedPair:
        return self.pair(number)

    def pair(self, number: int) -> TokenizedPair:
        """20 microseconds for 600 tokens in the system's cache. Raises EnvironmentProblem: the storage is gone."""
        number = range(len(self))[number]
        index = bisect_right(self._begins, number) - 1
        source, file = self._files[index]
        return _pair(file, number - self._begins[index], self.sources[source].name)

    def source(self, number: int) -> str:
        """Where the row of a pair stands in the data."""
        index = bisect_right(self._begins, number) - 1
        return self._files[index][1].text("source", number - self._begins[index])

    def rows_of(self, numbers: NDArray[np.int64]) -> int:
        """How many rows of the data these pairs come from."""
        if not len(numbers):
            return 0
        rows = self.column("row")
        begins = np.append(True, rows[1:] != rows[:-1])
        begins[self._begins[:-1]] = True  # of another file, which a row never reaches into
        return len(np.unique(np.cumsum(begins)[numbers]))

    def column(self, name: str) -> NDArray[Any]:
        return self.take(name, np.arange(len(self)))

    def take(self, name: str, numbers: NDArray[np.int64]) -> NDArray[Any]:
        """[n] a column of these pairs alone. Fast for neighbours: what stands between them is read as well."""
        order = None if (numbers[1:] >= numbers[:-1]).all() else np.argsort(numbers, kind="stable")
        ascending = numbers if order is None else numbers[order]
        values = self._values(name, ascending)
        if order is None:
            return values
        found = np.empty_like(values)
        found[order] = values
        return found

    def _values(self, name: str, numbers: NDArray[np.int64]) -> NDArray[Any]:
        """Of pairs in ascending order."""
        bounds = np.searchsorted(numbers, self._begins).tolist()
        if name == "dataset":
            names = [self.names.index(self.sources[source].name) for source, _ in self._files]
            return np.repeat(np.array(names, np.uint16), np.diff(bounds))
        dtype = KEY_TYPE if name == KEYS else FIXED[name][0]
        values = np.empty((len(numbers), 2) if name == KEYS else len(numbers), dtype)
        for (_, file), begin, (a, b) in zip(self._files, self._begins, pairwise(bounds), strict=False):
            file.take(name, numbers[a:b] - begin, values[a:b])
        return values

    def lengths(self, name: str) -> NDArray[np.int64]:
        found = np.empty(len(self), np.int64)
        for (_, file), begin in zip(self._files, self._begins, strict=False):
            found[begin : begin + len(file)] = file.lengths(name)
        return found


def _pair(file: ArrowFile, number: int, dataset: str) -> TokenizedPair:
    bits, margin, chosen = (file.value(name, number) for name in ("cut", "margin", "ref_chosen"))
    cut = tuple(part for bit, part in enumerate(PARTS) if bits >> bit & 1)
    prompt, *answers = (file.value(f"whole_{part}", number) for part in PARTS) if cut else (0, 0, 0)
    return TokenizedPair(
        prompt_ids=file.ints("prompt_ids", number),
        chosen_ids=file.ints("chosen_ids", number),
        rejected_ids=file.ints("rejected_ids", number),
        chosen_context=_spans(file.ints("chosen_context", number)),
        rejected_context=_spans(file.ints("rejected_context", number)),
        cut=cut,
        whole=(prompt, answers[0], answers[1]) if cut else None,
        source=file.text("source", number),
        dataset=dataset,
        id=f"{file.value('id', number):016x}",
        margin=None if isnan(margin) else margin,
        reference=None if isnan(chosen) else (chosen, file.value("ref_rejected", number)),
    )


def _spans(bounds: list[int]) -> Spans:
    return tuple(zip(bounds[::2], bounds[1::2], strict=True))


@dataclass(kw_only=True, slots=True)
class PairView:
    """Some pairs of a store, in this order; one may stand there several times."""

    store: PairStore
    rows: NDArray[np.int64]  # numbers of pairs

    @property
    def supplied(self) -> bool:
        return self.store.supplied

    @property
    def unpaired(self) -> bool:
        return self.store.unpaired

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[TokenizedPair]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> TokenizedPair:
        return self.store.pair(int(self.rows[number]))

    def some(self, numbers: NDArray[np.int64]) -> "PairView":
        """These of them, in this order."""
        return PairView(store=self.store, rows=self.rows[numbers])

    def column(self, name: str) -> NDArray[Any]:
        return self.store.take(name, self.rows)

    def take(self, name: str, numbers: NDArray[np.int64]) -> NDArray[Any]:
        return self.store.take(name, self.rows[numbers])

    def lengths(self, name: str) -> NDArray[np.int64]:
        return self.store.lengths(name)[self.rows]


class PairList(list[TokenizedPair]):
    """A few pairs in memory, with the columns of a store."""

    def some(self, numbers: NDArray[np.int64]) -> "PairList":
        return PairList(self[number] for number in numbers.tolist())

    def column(self, name: str) -> NDArray[Any]:
        if name == KEYS:
            keys = [record.response_keys for record in self._records]
            return np.array(keys, KEY_TYPE).reshape(-1, 2)
        return fixed(self._records, name)

    def take(self, name: str, numbers: NDArray[np.int64]) -> NDArray[Any]:
        return self.column(name)[numbers]

    def lengths(self, name: str) -> NDArray[np.int64]:
        return np.array([len(getattr(pair, name)) for pair in self], np.int64)

    @property
    def supplied(self) -> bool:
        return any(pair.reference is not None for pair in self)

    @property
    def unpaired(self) -> bool:
        return any(not (pair.chosen_ids and pair.rejected_ids) for pair in self)

    @property
    def _records(self) -> list[Record]:
        return [Record(pair=pair) for pair in self]
