"""What one process does with a chunk of rows: rows -> pairs -> tokens within the limits -> columns."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from dpo.data.decontaminate.benchmark import Benchmark, prompt_texts
from dpo.data.findings.features import features
from dpo.data.formats.convert import Converter
from dpo.data.pair import Dropped, Pair, Reject, TokenizedPair
from dpo.data.read.origin import Row
from dpo.data.rejects import Lost, add_counts
from dpo.data.store.columns import Record, batch_of
from dpo.data.store.manifest import Tally
from dpo.data.text.limits import Overlong, TokenLimits, fit, length
from dpo.data.text.template import ChatTemplate
from dpo.data.text.tokenize import tokenize_pairs

CHUNK_ROWS = 512  # a call of the tokenizer or between processes costs milliseconds, a row about one
CHUNK_CHARACTERS = 2**22  # fewer rows where they are long: 16 processes with two chunks each hold 128 MiB at most

Item = Row | Reject | Pair
"""A row, one that cannot be read, or one that is a pair already."""


@dataclass(kw_only=True, slots=True)
class Chunk:
    """Some rows of a source, one behind the other."""

    first: int  # number of the first row within the source, from 0
    items: list[Item]


@dataclass(kw_only=True, slots=True)
class Done:
    """What became of a chunk."""

    tally: Tally
    batch: pa.RecordBatch | None  # the pairs that are kept, in order; None: no pair
    lost: list[Reject]  # rows and pairs that are not, in order


def chunks(items: Iterable[Item]) -> Iterator[Chunk]:
    """All items in order, as many together as both bounds allow."""
    chunk, characters, number = Chunk(first=0, items=[]), 0, 0
    for number, item in enumerate(items, start=1):
        chunk.items.append(item)
        characters += _characters(item.values) if isinstance(item, Row) else 0
        if len(chunk.items) >= CHUNK_ROWS or characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = Chunk(first=number, items=[]), 0
    if chunk.items:
        yield chunk


def _characters(value: Any) -> int:
    """Of all texts in a value."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_characters, value.values()))
    return sum(map(_characters, value)) if isinstance(value, list) else 0


@dataclass(kw_only=True, slots=True)
class Work:
    """Given to every process once."""

    converter: Converter | None  # None: every item is a pair already
    tokenizer: PreTrainedTokenizerBase
    template: ChatTemplate
    limits: TokenLimits
    benchmark: Benchmark | None = None  # that every prompt is held against

    def do(self, chunk: Chunk) -> Done:
        """Raises what converting or tokenizing raised, with the row in which it did as a note."""
        ledger = _Ledger(tally=Tally(rows_read=len(chunk.items)), benchmark=self.benchmark)
        numbers: list[int] = []
        pairs: list[Pair] = []
        for number, item in enumerate(chunk.items, start=chunk.first):
            found = self._convert(item)
            if isinstance(found, list):
                numbers += [number] * len(found)
                pairs += found
            else:
                ledger.reject(number, found)
        for number, pair, whole in zip(numbers, pairs, self._tokenize(pairs), strict=True):
            ledger.take(number, pair, whole, self.limits)
        return ledger.close()

    def _convert(self, item: Item) -> list[Pair] | Reject:
        if isinstance(item, Reject):
            return item
        if isinstance(item, Pair):
            return [item]
        assert self.converter is not None
        try:
            return self.converter.pairs(item)
        except Exception as error:
            error.add_note(f"while {item.source} was converted")
            raise

    def _tokenize(self, pairs: list[Pair]) -> list[TokenizedPair | Reject]:
        try:
            return list(tokenize_pairs(pairs, self.tokenizer, self.template, self.limits))
        except Exception as error:
            if len(pairs) > 1:  # which one is it?
                for pair in pairs:
                    self._tokenize([pair])
            error.add_note(f"while {pairs[0].source} was tokenized")
            raise


@dataclass(kw_only=True, slots=True)
class _Ledger:
    """The pairs of a chunk as they are kept or lost."""

    tally: Tally
    benchmark: Benchmark | None = None
    records: list[Record] = field(default_factory=list)
    lost: list[tuple[int, Reject]] = field(default_factory=list)
    fates: defaultdict[int, set[str]] = field(default_factory=lambda: defaultdict(set))  # row -> of its pairs

    def reject(self, row: int, reject: Reject) -> None:
        sound = isinstance(reject, Dropped)
        self._lose(row, reject, self.tally.left_out if sound else self.tally.rejects, sound=sound)

    def _lose(self, row: int, reject: Reject, among: Lost, *, sound: bool) -> None:
        among.add(reject)
        self.lost.append((row, reject))
        self.fates[row].add("dropped" if sound else "rejected")

    def take(self, row: int, pair: Pair, whole: TokenizedPair | Reject, limits: TokenLimits) -> None:
        """A pair before its answers were cut."""
        add_counts(self.tally.remarks, dict.fromkeys(pair.remarks, 1))
        if isinstance(whole, Reject):
            self.reject(row, whole)
            return
        add_counts(self.tally.lengths, {length(whole): 1})
        result = fit(whole, limits)
        if isinstance(result, Overlong):
            self._lose(row, result.reject, self.tally.too_long, sound=True)
        else:
            overlap = self.benchmark.overlap(prompt_texts(pair.prompt)) if self.benchmark else None
            prompt = int(pair.prompt_hash, 16)
            self._keep(Record(pair=result, row=row, prompt=prompt, overlap=overlap, features=features(pair)))

    def _keep(self, record: Record) -> None:
        pair, tally = record.pair, self.tally
        self.records.append(record)
        self.fates[record.row].add("accepted")
        tally.pairs += 1
        tally.supplied += pair.reference is not None
        tally.unpaired += not (pair.chosen_ids and pair.rejected_ids)
        tally.cut_pairs += bool(pair.cut)
        add_counts(tally.cut, dict.fromkeys(pair.cut, 1))
        highest = max(map(max, filter(None, (pair.prompt_ids, pair.chosen_ids, pair.rejected_ids))))
        if highest > tally.highest[0]:
            tally.highest = (highest, pair.source)

    def close(self) -> Done:
        """A row is accepted when one of its pairs is kept, else rejected when one of them is bad, else dropped."""
        for fates in self.fates.values():
            fate = next(fate for fate in ("accepted", "rejected", "dropped") if fate in fates)
            setattr(self.tally, fate, getattr(self.tally, fate) + 1)
        # In the order of the rows: bad ones were found first, by converting the whole chunk.
        lost = [reject for _, reject in sorted(self.lost, key=lambda entry: entry[0])]
        return Done(tally=self.tally, batch=batch_of(self.records) if self.records else None, lost=lost)
