"""The whole way from the data settings to tokenized pairs: what the assembly calls."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerBase

from dpo.config.schema import DataConfig
from dpo.data.formats.convert import Converted, convert_rows, require_used
from dpo.data.formats.settings import format_settings
from dpo.data.pair import Dropped, Pair, Reject, TokenizedPair
from dpo.data.read.files import Origin
from dpo.data.rejects import check_rejects, count_reasons, show, write_rejects
from dpo.data.split import split_pairs, without_prompts_of
from dpo.data.text.limits import PAIR_TOO_LONG, PROMPT_TOO_LONG, Overlong, TokenLimits, fit, length
from dpo.data.text.template import ChatTemplate
from dpo.data.text.tokenize import tokenize_pairs
from dpo.errors import DataError

__all__ = ["PairSets", "TokenizedSets", "check_rejects", "read_pairs", "tokenize_sets", "write_rejects"]

HELD_OUT_TOO = "prompt is held out too"
PARTS = ("prompt", "chosen", "rejected")
KEPT_SHARE = 0.99  # of the pairs, by the limit that the notes recommend


@dataclass(kw_only=True, slots=True)
class PairSets:
    """All rows, sorted: each is a reject, is dropped, or gave one or more of the pairs."""

    train: list[Pair]
    held_out: list[Pair]
    rejects: list[Reject] = field(default_factory=list)  # bad rows: an error unless data.on_bad_row=skip
    dropped: list[Reject] = field(default_factory=list)  # sound rows that are left out on purpose; never an error
    rows_read: int
    notes: list[str]  # for the log


@dataclass(kw_only=True, slots=True)
class TokenizedSets:
    """The same after tokenizing."""

    train: list[TokenizedPair]
    held_out: list[TokenizedPair]
    rejects: list[Reject]  # with those of `PairSets`
    dropped: list[Reject]  # with those of `PairSets`
    rows_read: int
    notes: list[str]  # only those that tokenizing adds


def read_pairs(config: DataConfig, eval_fraction: float) -> PairSets:
    """Read the pairs and split off the held-out ones, by prompt.

    `eval_fraction`: share of the prompts that is held out when the settings name no held-out data. Raises DataError.
    """
    if config.path is None:
        return _demo_sets(config)
    origin = Origin(path=config.path, split=config.split, revision=config.revision, limit=config.limit)
    settings = format_settings(config)
    main = convert_rows(origin, settings)
    require_used([main.converter])
    if config.eval_path is None and config.eval_split is None:
        return _split_sets(config, main, eval_fraction)
    return _sets_with_eval(config, main, convert_rows(_eval_origin(config), settings))


def _demo_sets(config: DataConfig) -> PairSets:
    if config.demo < 1:
        raise DataError(
            "there is no data: set data.path to a file of preference pairs or a hub data set, "
            "or data.demo to a number of generated pairs"
        )
    from dpo.demo.pairs import demo_pairs  # here: runs on real data need none of it

    train, held_out = demo_pairs(config.demo)
    train = train[: config.limit]
    note = f"data: demo pairs made by code, {len(train)} train / {len(held_out)} held-out"
    return PairSets(train=train, held_out=held_out, rows_read=len(train) + len(held_out), notes=[note])


def _eval_origin(config: DataConfig) -> Origin:
    """Held-out data. `data.revision` belongs to `data.path`; `eval_split` alone is a split of `data.path`."""
    own_path = config.eval_path is not None
    return Origin(
        path=config.eval_path or config.path or "",
        split=config.eval_split or config.split,
        revision=None if own_path else config.revision,
        limit=config.limit,
        setting="data.eval_path" if own_path else "data.path",
        split_setting="data.eval_split",
    )


def _split_sets(config: DataConfig, main: Converted, fraction: float) -> PairSets:
    train, held_out = split_pairs(main.pairs, fraction)
    notes = [_note(config.path, main, f"{len(train)} train / {len(held_out)} held-out")]
    if fraction > 0 and not held_out and train:
        notes.append("data: all pairs have the same prompt, so that none is held out; set data.eval_path to evaluate")
    return PairSets(
        train=train,
        held_out=held_out,
        rejects=main.rejects,
        dropped=main.dropped,
        rows_read=main.rows_read,
        notes=notes,
    )


def _sets_with_eval(config: DataConfig, main: Converted, held: Converted) -> PairSets:
    train, leaked = without_prompts_of(main.pairs, held.pairs)
    where = config.eval_path or f"split {config.eval_split}"
    notes = [
        _note(config.path, main, f"{len(train)} train"),
        _note(where, held, f"{len(held.pairs)} held-out"),
    ]
    if leaked:
        notes.append(
            f"data: {len(leaked)} training pairs left out, because their prompts are also in the held-out data"
        )
    detail = f"the same prompt is in {where}"
    return PairSets(
        train=train,
        held_out=held.pairs,
        rejects=main.rejects + held.rejects,
        dropped=[
            *main.dropped,
            *held.dropped,
            *(Dropped(source=pair.source, reason=HELD_OUT_TOO, detail=detail) for pair in leaked),
        ],
        rows_read=main.rows_read + held.rows_read,
        notes=notes,
    )


def _note(path: str | None, converted: Converted, sides: str) -> str:
    counted = {
        "bad rows": count_reasons(converted.rejects),
        "left out": count_reasons(converted.dropped),
        "of the pairs": ", ".join(f"{count} {remark}" for remark, count in converted.remarks.most_common()),
    }
    more = "".join(f", {what}: {counts}" for what, counts in counted.items() if counts)
    return f"data: {path}: {converted.converter.describe()}, {converted.rows_read} rows, {sides}{more}"


@dataclass(kw_only=True, slots=True)
class _Tally:
    """What tokenizing does to the pairs of both sides."""

    lengths: list[int] = field(default_factory=list)  # of every tokenized pair before limits
    rejects: list[Reject] = field(default_factory=list)
    dropped: list[Reject] = field(default_factory=list)
    cut: Counter[tuple[str, ...]] = field(default_factory=Counter)  # pairs by what was cut of them


def tokenize_sets(
    sets: PairSets, tokenizer: PreTrainedTokenizerBase, template: ChatTemplate, limits: TokenLimits
) -> TokenizedSets:
    """Tokenize both sides and apply the limits. Raises DataError when no training pair remains."""
    tally = _Tally()
    train = _tokenize_side(tokenize_pairs(sets.train, tokenizer, template, limits), limits, tally)
    held_out = _tokenize_side(tokenize_pairs(sets.held_out, tokenizer, template, limits), limits, tally)
    result = TokenizedSets(
        train=train,
        held_out=held_out,
        rejects=sets.rejects + tally.rejects,
        dropped=sets.dropped + tally.dropped,
        rows_read=sets.rows_read,
        notes=_length_notes(tally, limits),
    )
    if not train:
        raise DataError(_nothing_left(result, tally, limits))
    if sets.held_out and not held_out:
        result.notes.append("data: no held-out pair is left after tokenizing: nothing is evaluated")
    return result


def _tokenize_side(
    results: Iterator[TokenizedPair | Reject], limits: TokenLimits, tally: _Tally
) -> list[TokenizedPair]:
    kept = []
    for whole in results:
        result: TokenizedPair | Reject | Overlong = whole
        if isinstance(whole, TokenizedPair):
            tally.lengths.append(length(whole))
            result = fit(whole, limits)
        if isinstance(result, TokenizedPair):
            tally.cut.update([result.cut] if result.cut else [])
            kept.append(result)
        elif isinstance(result, Overlong):
            tally.dropped.append(result.reject)
        else:
            tally.rejects.append(result)
    return kept


def length_to_keep(lengths: list[int], share: float = KEPT_SHARE) -> int:
    """The smallest limit, in tokens, that keeps at least `share` of pairs with these lengths."""
    return sorted(lengths)[math.ceil(share * len(lengths)) - 1]


def _length_notes(tally: _Tally, limits: TokenLimits) -> list[str]:
    notes = []
    if tally.rejects:
        notes.append(f"data: bad rows found in tokenizing: {count_reasons(tally.rejects)}")
    if tally.dropped or tally.cut:
        total = len(tally.lengths)
        lost = f"{len(tally.dropped)} dropped ({100 * len(tally.dropped) / total:.1f} %)"
        if tally.dropped:
            lost += f": {count_reasons(tally.dropped)}"
        notes.append(
            f"data: of {total} pairs, {lost}; {_cut(tally.cut)}, at data.max_length={limits.max_length}; "
            f"{_advice(tally.lengths)}"
        )
    return notes


def _cut(cut: Counter[tuple[str, ...]]) -> str:
    """'5 cut (3 in chosen, 4 in rejected)'"""
    parts = ((name, sum(count for names, count in cut.items() if name in names)) for name in PARTS)
    told = ", ".join(f"{count} in {name}" for name, count in parts if count)
    return f"{cut.total()} cut" + (f" ({told})" if told else "")


def _advice(lengths: list[int]) -> str:
    return f"data.max_length={length_to_keep(lengths)} would keep 99 % of the pairs"


def _nothing_left(result: TokenizedSets, tally: _Tally, limits: TokenLimits) -> str:
    lost = result.rejects + result.dropped
    message = f"no training pair is left of {result.rows_read} rows ({count_reasons(lost) or 'none was there'})"
    if any(reject.reason in (PAIR_TOO_LONG, PROMPT_TOO_LONG) for reject in lost) and tally.lengths:
        message += (
            f"; data.max_length is {limits.max_length} tokens, and data.max_length={length_to_keep(tally.lengths)} "
            "would keep 99 % of the pairs"
        )
        if limits.max_prompt_length is not None:
            message += f" (data.max_prompt_length is {limits.max_prompt_length})"
    return f"{message}:\n{show(lost)}" if lost else message
