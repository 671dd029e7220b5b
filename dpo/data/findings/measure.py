"""Everything that is measured over prepared pairs, in one value: what the report shows and the JSON holds."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from dpo.data.findings import answers, lengths, repeats, tokens
from dpo.data.findings.answers import Margins, Sides
from dpo.data.findings.columns import Account, Columns
from dpo.data.findings.faults import FAULTS
from dpo.data.findings.features import OPENING_WORDS
from dpo.data.findings.lengths import Histogram, LengthBias, Spread
from dpo.data.findings.repeats import Opening, Repeats
from dpo.data.findings.sources import Source, sources
from dpo.data.findings.suspects import Suspect, suspects
from dpo.data.findings.table import Table
from dpo.data.findings.tokens import Computed, Limits
from dpo.data.pair import TokenizedPair
from dpo.data.text.limits import ENDS_IN_CONTEXT, EQUAL_AFTER_CUTTING, PAIR_TOO_LONG, PROMPT_TOO_LONG

LIMITED = (PAIR_TOO_LONG, PROMPT_TOO_LONG, EQUAL_AFTER_CUTTING, ENDS_IN_CONTEXT)  # reasons of pairs left out
EXAMPLE_TOKENS, EXAMPLE_CHARACTERS = 60, 100  # of an answer or prompt that stands for many

Decode = Callable[[list[int]], str]
"""Token ids -> text without special tokens."""


@dataclass(kw_only=True, slots=True)
class Measured:
    """Numbers of pairs are those within the limits, training and held-out."""

    rows_read: int
    rejects: dict[str, int]  # reason -> bad rows
    dropped: dict[str, int]  # reason -> sound rows left out on purpose
    pairs: int
    unpaired: int  # rows with one answer
    multi_turn: float  # share of the pairs whose prompt has an answer in it
    lengths: dict[str, Spread]  # prompt, chosen, rejected; tokens
    histogram: Histogram  # of the same
    bias: LengthBias | None  # None: no pair has two answers
    limits: Limits
    computed: Computed
    repeats: Repeats
    marks: dict[str, Sides]
    languages: dict[str, dict[str, float]]
    different_language: float  # share of the pairs whose answers are in two languages
    margins: Margins | None  # None: no pair has one
    faults: dict[str, int]  # key -> pairs
    sources: list[Source]
    suspects: list[Suspect]


def measure(columns: Columns, account: Account, decode: Decode) -> Measured:
    """All measures; `columns` has at least one pair. Takes about ten times a sort of the pairs' keys."""
    table = Table(columns)
    flags = {fault.key: np.asarray(fault.find(table), bool) for fault in FAULTS}
    too_long = sum(account.dropped.get(reason, 0) for reason in LIMITED)
    series = {side: found[found > 0] for side in lengths.SIDES if (found := table[f"{side}_ids"]).any()}
    return Measured(
        rows_read=account.rows_read,
        rejects=dict(Counter(account.rejects).most_common()),
        dropped=dict(Counter(account.dropped).most_common()),
        pairs=len(table),
        unpaired=int((~table.paired).sum()),
        multi_turn=float((table["turns"] > 2).mean()),
        lengths=lengths.spreads(table),
        histogram=lengths.histogram(series, low=0.0),
        bias=lengths.length_bias(table),
        limits=tokens.limits(table, account, too_long),
        computed=tokens.computed(table),
        repeats=_with_texts(repeats.repeats(table), columns, decode),
        marks=answers.marks(table),
        languages=answers.languages(table),
        different_language=answers.different_language(table),
        margins=answers.margins(table),
        faults={key: int(flag.sum()) for key, flag in flags.items()},
        sources=[_with_template(source, columns, decode) for source in sources(table, account.names, flags)],
        suspects=suspects(table, flags),
    )


def _with_texts(found: Repeats, columns: Columns, decode: Decode) -> Repeats:
    """`found` with the texts that its numbers are about."""

    def opening(one: Opening) -> str:
        return " ".join(_start(_answer(columns[one.example], one.side), decode).split()[:OPENING_WORDS])

    openings = [replace(one, text=opening(one)) for one in found.openings]
    chosen, rejected = (
        replace(one, text=_start(_answer(columns[one.example], side), decode))
        for side, one in (("chosen", found.chosen), ("rejected", found.rejected))
    )
    return replace(found, openings=openings, chosen=chosen, rejected=rejected)


def _with_template(source: Source, columns: Columns, decode: Decode) -> Source:
    """The end of the prompt is shown: it holds the turn that the template made."""
    text = decode(columns[source.template.example].prompt_ids).strip()
    return replace(source, template=replace(source.template, text=text[-2 * EXAMPLE_CHARACTERS :]))


def _answer(pair: TokenizedPair, side: str) -> list[int]:
    return pair.chosen_ids if side == "chosen" else pair.rejected_ids


def _start(ids: list[int], decode: Decode) -> str:
    return decode(ids[:EXAMPLE_TOKENS]).strip()[:EXAMPLE_CHARACTERS]
