"""How long a pair may be, and what becomes of one that is longer."""

from dataclasses import dataclass, replace

from dpo.data.pair import Pair, Reject, Spans, TokenizedPair

ENDS_IN_CONTEXT = "answer cut within a tool or user turn"
EQUAL_AFTER_CUTTING = "answers equal after cutting"
PAIR_TOO_LONG = "pair too long"
PROMPT_TOO_LONG = "prompt too long"


@dataclass(kw_only=True, slots=True)
class TokenLimits:
    """How long a pair may be, in tokens."""

    max_length: int  # prompt + longer answer
    max_prompt_length: int | None = None  # None: only `max_length` limits it
    # What happens to a longer pair: "drop" | "cut_prompt": its oldest turns go (dpo/data/text/shorten.py) |
    # "cut_answers": its answers lose their ends. What is too long even so is dropped.
    truncation: str = "drop"

    def hold(self, pair: TokenizedPair) -> bool:
        """Whether `pair` is within the limits."""
        prompt, longest = len(pair.prompt_ids), self.max_prompt_length
        together = prompt + max(len(pair.chosen_ids), len(pair.rejected_ids))
        return together <= self.max_length and (longest is None or prompt <= longest)


@dataclass(kw_only=True, slots=True)
class Overlong:
    """A pair that is sound but does not fit: left out as the limits ask, never an error."""

    reject: Reject


def reject(row: Pair | TokenizedPair, reason: str, detail: str) -> Reject:
    return Reject(source=row.source, reason=reason, detail=detail)


def whole_lengths(pair: TokenizedPair) -> tuple[int, int, int]:
    """Tokens of prompt, chosen and rejected, before anything was cut."""
    return pair.whole or (len(pair.prompt_ids), len(pair.chosen_ids), len(pair.rejected_ids))


def length(pair: TokenizedPair) -> int:
    """Tokens of the prompt and the longer answer, before anything was cut."""
    prompt, chosen, rejected = whole_lengths(pair)
    return prompt + max(chosen, rejected)


def fit(pair: TokenizedPair, limits: TokenLimits) -> TokenizedPair | Overlong:
    """`pair` within the limits. A cut answer loses its end, with its end-of-turn token; a prompt is not cut here."""
    if limits.hold(pair):
        return pair
    prompt, longest = len(pair.prompt_ids), limits.max_prompt_length
    if longest is not None and prompt > longest:
        return _overlong(pair, PROMPT_TOO_LONG, f"{prompt} tokens, data.max_prompt_length is {longest}")
    room = limits.max_length - prompt
    if limits.truncation != "cut_answers" or room < 1:
        detail = f"{length(pair)} tokens with a prompt of {prompt}, data.max_length is {limits.max_length}"
        return _overlong(pair, PAIR_TOO_LONG, detail)
    return _cut(pair, room)


def _overlong(pair: TokenizedPair, reason: str, detail: str) -> Overlong:
    return Overlong(reject=reject(pair, reason, detail))


def _cut(pair: TokenizedPair, room: int) -> TokenizedPair | Overlong:
    """Both answers cut to `room` tokens."""
    sides = ((pair.chosen_ids, pair.chosen_context), (pair.rejected_ids, pair.rejected_context))
    if any(len(ids) > room and any(start < room <= end for start, end in context) for ids, context in sides):
        return _overlong(pair, ENDS_IN_CONTEXT, f"after {room} tokens an answer is within a turn that is not scored")
    chosen, rejected = pair.chosen_ids[:room], pair.rejected_ids[:room]
    if chosen == rejected:
        detail = f"chosen and rejected are the same in their first {room} tokens"
        return _overlong(pair, EQUAL_AFTER_CUTTING, detail)
    whole = (("chosen", pair.chosen_ids), ("rejected", pair.rejected_ids))
    return replace(
        pair,
        chosen_ids=chosen,
        rejected_ids=rejected,
        chosen_context=_until(pair.chosen_context, room),
        rejected_context=_until(pair.rejected_context, room),
        cut=tuple(name for name, ids in whole if len(ids) > room),
        whole=whole_lengths(pair),
        reference=None,  # it was of whole answers
    )


def _until(spans: Spans, room: int) -> Spans:
    return tuple(span for span in spans if span[1] <= room)
