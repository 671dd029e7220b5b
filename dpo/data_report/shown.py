"""A pair as a person reads it: the end of its prompt, and its answers from a little before they differ."""

from dataclasses import dataclass
from itertools import pairwise, takewhile

from dpo.data.findings.columns import Columns
from dpo.data.findings.faults import FAULTS
from dpo.data.findings.measure import Decode
from dpo.data.findings.suspects import Suspect
from dpo.data.pair import Spans, TokenizedPair

PROMPT, ANSWER = 1200, 1500  # characters that are shown
BEFORE = 150  # of an answer, before it differs from the other one
SAYS = {fault.key: fault.says for fault in FAULTS}


@dataclass(kw_only=True, slots=True)
class Part:
    """A stretch of an answer."""

    text: str
    scored: bool


@dataclass(kw_only=True, slots=True)
class ShownAnswer:
    left_out: int  # characters before the parts, the same in both answers
    parts: list[Part]
    more: int  # characters after the parts
    tokens: int
    scored: int  # tokens


@dataclass(kw_only=True, slots=True)
class ShownPair:
    source: str
    dataset: str
    id: str
    reasons: list[str]  # what is wrong, in words
    twin: str  # where the pair that says the opposite stands; "": there is none
    margin: float | None
    prompt_left_out: int  # characters before `prompt`
    prompt: str
    chosen: ShownAnswer
    rejected: ShownAnswer


def shown_pair(suspect: Suspect, columns: Columns, decode: Decode) -> ShownPair:
    """`decode`: with special tokens, which are part of what the model reads."""
    pair = columns[suspect.number]
    prompt = decode(pair.prompt_ids)
    chosen = _parts(pair.chosen_ids, pair.chosen_context, decode)
    rejected = _parts(pair.rejected_ids, pair.rejected_context, decode)
    start = max(0, _common(_text(chosen), _text(rejected)) - BEFORE)
    return ShownPair(
        source=pair.source,
        dataset=pair.dataset,
        id=pair.id,
        reasons=[SAYS[key] for key in suspect.faults],
        twin=columns[suspect.twin].source if suspect.twin >= 0 else "",
        margin=pair.margin,
        prompt_left_out=max(0, len(prompt) - PROMPT),
        prompt=prompt[-PROMPT:],
        chosen=_answer(chosen, start, pair, "chosen"),
        rejected=_answer(rejected, start, pair, "rejected"),
    )


def _answer(parts: list[Part], start: int, pair: TokenizedPair, side: str) -> ShownAnswer:
    ids, context = (
        (pair.chosen_ids, pair.chosen_context) if side == "chosen" else (pair.rejected_ids, pair.rejected_context)
    )
    return ShownAnswer(
        left_out=start,
        parts=_window(parts, start, start + ANSWER),
        more=max(0, len(_text(parts)) - start - ANSWER),
        tokens=len(ids),
        scored=len(ids) - sum(end - begin for begin, end in context),
    )


def _parts(ids: list[int], context: Spans, decode: Decode) -> list[Part]:
    """The answer's text, cut where scoring begins and ends."""
    bounds = [0, *(bound for span in context for bound in span), len(ids)]
    stretches = pairwise(bounds)
    return [Part(text=decode(ids[a:b]), scored=i % 2 == 0) for i, (a, b) in enumerate(stretches) if b > a]


def _text(parts: list[Part]) -> str:
    return "".join(part.text for part in parts)


def _common(one: str, other: str) -> int:
    return sum(1 for _ in takewhile(lambda letters: letters[0] == letters[1], zip(one, other, strict=False)))


def _window(parts: list[Part], start: int, end: int) -> list[Part]:
    """The characters from `start` to `end`."""
    result, at = [], 0
    for part in parts:
        text = part.text[max(0, start - at) : max(0, end - at)]
        if text:
            result.append(Part(text=text, scored=part.scored))
        at += len(part.text)
    return result
