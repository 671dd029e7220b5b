"""What comes out of the data settings: the pairs that are trained on, those that are held out, and an account of every
row."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from dpo.data.pair import Reject
from dpo.data.rejects import SHOWN, Lost, add_counts, joined
from dpo.data.store.manifest import REJECTS
from dpo.data.store.pairs import PairView, Source
from dpo.data.text.tokenize import PAIR_TOO_LONG, PROMPT_TOO_LONG, TokenLimits
from dpo.errors import DataError

HELD_OUT_TOO = "prompt is held out too"
KEPT_SHARE = 0.99  # of the pairs, by the limit that the notes recommend


@dataclass(kw_only=True, slots=True)
class DataSets:
    """All rows, sorted: rows_read = accepted + rejected + dropped. A row with several pairs counts once, and as
    accepted when one of its pairs is used."""

    train: PairView
    held_out: PairView
    leaked: PairView  # left out, since their prompts are held out too
    sources: list[Source]
    limits: TokenLimits
    notes: list[str] = field(default_factory=list)  # for the log

    @property
    def rows_read(self) -> int:
        return sum(source.manifest.tally.rows_read for source in self.sources)

    @property
    def rejected(self) -> int:
        return sum(source.manifest.tally.rejected for source in self.sources)

    @property
    def dropped(self) -> int:
        return sum(source.manifest.tally.dropped for source in self.sources) + self._unused_rows()

    @property
    def accepted(self) -> int:
        return sum(source.manifest.tally.accepted for source in self.sources) - self._unused_rows()

    @property
    def rejects(self) -> Lost:
        """Bad rows and pairs: an error unless data.on_bad_row=skip."""
        return joined(source.manifest.tally.rejects for source in self.sources)

    @property
    def left_out(self) -> Lost:
        """Sound rows and pairs that are not used, on purpose; never an error."""
        lost = joined(source.manifest.tally.left_out for source in self.sources)
        if len(self.leaked):
            first = list(islice(self.leaks(), SHOWN))
            lost.join(Lost(counts={HELD_OUT_TOO: len(self.leaked)}, first=first))
        return lost

    @property
    def kept_rejects(self) -> list[Path]:
        """The files with every row and pair that was lost before the pairs were stored."""
        return [source.folder / REJECTS for source in self.sources]

    def leaks(self) -> Iterator[Reject]:
        """The rows of `leaked`."""
        for row in self.leaked.rows.tolist():
            source = self.leaked.store.source(row)
            yield Reject(source=source, reason=HELD_OUT_TOO, detail="the same prompt is in the held-out data")

    @property
    def highest_token(self) -> tuple[int, str]:
        """The highest token id, and where it stands."""
        return max(source.manifest.tally.highest for source in self.sources)

    def length_notes(self) -> list[str]:
        """What the limits cost."""
        tallies = [source.manifest.tally for source in self.sources]
        lost, cut = joined(tally.left_out for tally in tallies), sum(tally.cut_pairs for tally in tallies)
        if not lost and not cut:
            return []
        lengths = self.lengths()
        total = sum(lengths.values())
        reasons = f": {lost.reasons()}" if lost else ""
        return [
            f"data: of {total} pairs, {len(lost)} dropped ({100 * len(lost) / total:.1f} %){reasons}; {cut} cut, at "
            f"data.max_length={self.limits.max_length}; data.max_length={length_to_keep(lengths)} would keep 99 % of "
            "the pairs"
        ]

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

    def _unused_rows(self) -> int:
        """Of a row that gave pairs, all have one prompt: they are used together or not at all."""
        return self.leaked.store.rows_of(self.leaked.rows)


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
    bad = f", bad rows: {tally.rejects.reasons()}" if tally.rejects else ""
    return f"data: {source.label}: {source.manifest.format}, {tally.rows_read} rows, {sides}{bad}"
