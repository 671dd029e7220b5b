"""What comes out of the data settings: the pairs that are trained on, those that are held out, and an account of every
row."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dpo.data.pair import Dropped, Reject
from dpo.data.rejects import SHOWN, Lost, add_counts, joined, ordered
from dpo.data.store.columns import PARTS
from dpo.data.store.manifest import REJECTS, Tally
from dpo.data.store.pairs import PairStore, PairView, Source
from dpo.data.text.limits import PAIR_TOO_LONG, PROMPT_TOO_LONG, TokenLimits
from dpo.errors import DataError

HELD_OUT_TOO = "prompt is held out too"
DUPLICATE = "duplicate"
IN_BENCHMARK = "prompt is in a benchmark"
KEPT_SHARE = 0.99  # of the pairs, by the limit that the notes recommend


@dataclass(kw_only=True, slots=True)
class Unused:
    """Prepared pairs that are left out on purpose, all for one reason."""

    store: PairStore
    rows: NDArray[np.int64]
    reason: str
    detail: Callable[[int], str]  # of the pair at this place in `rows`

    def rejects(self) -> Iterator[Reject]:
        """One after the other, as the list of lost rows has them."""
        for place, row in enumerate(self.rows.tolist()):
            yield Dropped(source=self.store.source(row), reason=self.reason, detail=self.detail(place))


@dataclass(kw_only=True, slots=True)
class DataSets:
    """All rows, sorted: rows_read = accepted + rejected + dropped. A row with several pairs counts once, and as
    accepted when one of its pairs is used."""

    train: PairView
    held_out: PairView
    unused: list[Unused]
    sources: list[Source]
    limits: TokenLimits
    notes: list[str] = field(default_factory=list)  # for the log
    warnings: list[str] = field(default_factory=list)  # for the log too
    passes: list[NDArray[np.int64]] = field(default_factory=list)  # of an epoch: places in `train`, once in each pass

    @property
    def datasets(self) -> list[str]:
        """The names of the data sets, where training or held-out pairs come from several; else none."""
        names = [side.store.names for side in (self.train, self.held_out)]
        return list(dict.fromkeys(name for own in names for name in own)) if max(map(len, names)) > 1 else []

    @property
    def rows_read(self) -> int:
        return sum(source.manifest.tally.rows_read for source in self.sources)

    @property
    def rejected(self) -> int:
        return sum(source.manifest.tally.rejected for source in self.sources)

    @property
    def dropped(self) -> int:
        found = sum(tally.accepted + tally.dropped for tally in self._tallies())
        return found - self.accepted

    @property
    def accepted(self) -> int:
        if not self.unused:
            return sum(tally.accepted for tally in self._tallies())
        if self.train.store is not self.held_out.store:
            return sum(side.store.rows_of(side.rows) for side in (self.train, self.held_out))
        return self.train.store.rows_of(np.concatenate([self.train.rows, self.held_out.rows]))

    @property
    def rejects(self) -> Lost:
        """Bad rows and pairs: an error unless data.on_bad_row=skip."""
        return joined(source.manifest.tally.rejects for source in self.sources)

    @property
    def left_out(self) -> Lost:
        """Sound rows and pairs that are not used, on purpose; never an error."""
        lost = joined(found for tally in self._tallies() for found in (tally.left_out, tally.too_long))
        for one in self.unused:
            lost.join(Lost(counts={one.reason: len(one.rows)}, first=list(islice(one.rejects(), SHOWN))))
        return lost

    @property
    def kept_rejects(self) -> list[Path]:
        """The files with every row and pair that was lost before the pairs were stored."""
        return [source.folder / REJECTS for source in self.sources]

    def unused_pairs(self) -> Iterator[Reject]:
        """What was prepared and is not used."""
        return chain.from_iterable(one.rejects() for one in self.unused)

    @property
    def highest_token(self) -> tuple[int, str]:
        """The highest token id, and where it stands."""
        return max(source.manifest.tally.highest for source in self.sources)

    def length_notes(self) -> list[str]:
        """What the limits cost."""
        tallies = [source.manifest.tally for source in self.sources]
        lost, cut = joined(tally.too_long for tally in tallies), sum(tally.cut_pairs for tally in tallies)
        if not lost and not cut:
            return []
        lengths = self.lengths()
        total = sum(lengths.values())
        reasons = f": {lost.reasons()}" if lost else ""
        return [
            f"data: of {total} pairs, {len(lost)} dropped ({100 * len(lost) / total:.1f} %){reasons}; {cut} cut"
            f"{self._cut_parts()}, at data.max_length={self.limits.max_length}; "
            f"data.max_length={length_to_keep(lengths)} would keep 99 % of the pairs"
        ]

    def _cut_parts(self) -> str:
        """' (3 in chosen, 4 in rejected)'"""
        parts: dict[str, int] = {}
        for source in self.sources:
            add_counts(parts, source.manifest.tally.cut)
        told = ", ".join(f"{parts[part]} in {part}" for part in PARTS if part in parts)
        return f" ({told})" if told else ""

    def require_training_pairs(self) -> None:
        """Raises DataError, with what would help, when there is none."""
        if len(self.train):
            return
        lost = joined([self.rejects, self.left_out])
        message = f"no training pair is left of {self.rows_read} rows ({lost.reasons() or 'none was there'})"
        lengths = self.lengths()
        if lengths and {PAIR_TOO_LONG, PROMPT_TOO_LONG} & lost.counts.keys():
            message += (
                f"; data.max_length is {self.limits.max_length} tokens, and data.max_length={length_to_keep(lengths)} "
                "would keep 99 % of the pairs"
            )
            if self.limits.max_prompt_length is not None:
                message += f" (data.max_prompt_length is {self.limits.max_prompt_length})"
        raise DataError(f"{message}:\n{lost.show()}" if lost else message)

    def lengths(self) -> dict[int, int]:
        """Tokens of prompt and longer answer before any limit -> pairs, kept or not."""
        lengths: dict[int, int] = {}
        for source in self.sources:
            add_counts(lengths, source.manifest.tally.lengths)
        return lengths

    def _tallies(self) -> list[Tally]:
        return [source.manifest.tally for source in self.sources]


def length_to_keep(lengths: dict[int, int], share: float = KEPT_SHARE) -> int:
    """The smallest limit, in tokens, that keeps at least `share` of the pairs, of which `lengths`[n] have n tokens."""
    wanted, kept = math.ceil(share * sum(lengths.values())), 0
    for length in sorted(lengths):
        kept += lengths[length]
        if kept >= wanted:
            return length
    raise ValueError("there are no pairs")


def source_note(source: Source, sides: str) -> str:
    """What a source is, for the log."""
    tally = source.manifest.tally
    counted = {
        "bad rows": tally.rejects.reasons(),
        "left out": tally.left_out.reasons(),
        "of the pairs": ordered(tally.remarks),
    }
    more = "".join(f", {what}: {counts}" for what, counts in counted.items() if counts)
    return f"data: {source.label}: {source.manifest.format}, {tally.rows_read} rows, {sides}{more}"
