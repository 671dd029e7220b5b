"""A pair as text: the prompt, and each answer as exactly what the chat template puts after that prompt."""

import re
from dataclasses import dataclass

from dpo.data.formats.messages import RowProblem
from dpo.data.pair import Message, Pair
from dpo.data.text.pieces import Encoder, Piece
from dpo.data.text.template import ChatTemplate, TemplateProblem, end_of_turn_span, is_raw

MARKER = "zqx{}qxz"  # stands for a text while a template is measured; no blank or mark that templates look at
NO_PREFIX = "template does not keep the prompt as a prefix"
CHANGED = "template changes the answer"
SPECIAL = "special token in the text"


@dataclass(kw_only=True, slots=True)
class RenderedAnswer:
    """An answer as text, and the token that ends it."""

    pieces: list[Piece]
    end_id: int


@dataclass(kw_only=True, slots=True)
class RenderedPair:
    """A pair as text, ready to be tokenized piece by piece."""

    prompt: list[Piece]
    chosen: RenderedAnswer
    rejected: RenderedAnswer


@dataclass(kw_only=True, slots=True)
class _Frame:
    """What the template puts around an answer to one prompt: `prompt + head + answer + tail`."""

    prompt: str
    has_header: bool  # `prompt` is the whole generation prompt, not only a part of it
    head: str
    tail: str


def render_pair(pair: Pair, template: ChatTemplate, encoder: Encoder) -> RenderedPair:
    """The texts of `pair`. The prompt's text is the same for both answers by construction.

    The prompt is what a model reads before it generates (with the generation header) if the finished conversation
    begins with that text. Some templates open a generated answer differently from a finished one; then the prompt is
    what the two have in common, at least all messages of the prompt. Raises RowProblem.
    """
    if len(pair.chosen) != 1 or len(pair.rejected) != 1:
        counts = f"chosen has {len(pair.chosen)}, rejected {len(pair.rejected)}"
        raise RowProblem("answer has several messages", f"{counts}; expected one assistant turn each")
    if template.raw or is_raw(pair.prompt):
        return _render_raw(pair, template, encoder)
    try:
        frame = _frame(pair.prompt, template, encoder)
        return RenderedPair(
            prompt=_prompt_pieces(pair.prompt, frame, template, encoder),
            chosen=_answer(pair.prompt, pair.chosen[0], frame, template, encoder),
            rejected=_answer(pair.prompt, pair.rejected[0], frame, template, encoder),
        )
    except TemplateProblem as problem:
        raise RowProblem("chat template refuses the messages", str(problem)) from problem


def _render_raw(pair: Pair, template: ChatTemplate, encoder: Encoder) -> RenderedPair:
    """The texts as they are; a control token spelt out in them is that token, since somebody rendered them before."""
    prompt = template.render(encoder.tokenizer, pair.prompt, header=True)
    end_id = _token_id(encoder, str(encoder.tokenizer.eos_token))
    chosen, rejected = (
        RenderedAnswer(pieces=[Piece(text=turns[0]["content"], after=prompt)], end_id=end_id)
        for turns in (pair.chosen, pair.rejected)
    )
    return RenderedPair(prompt=[Piece(text=prompt)], chosen=chosen, rejected=rejected)


def _frame(prompt: list[Message], template: ChatTemplate, encoder: Encoder) -> _Frame:
    """Measure the template with a marker as the answer. Raises RowProblem, TemplateProblem."""
    marker = MARKER.format("answer")
    generation = template.render(encoder.tokenizer, prompt, header=True)
    whole = template.render(encoder.tokenizer, [*prompt, _assistant(marker)], header=False)
    start = len(generation)
    if not whole.startswith(generation):
        start = _common_start(generation, whole, encoder)
        if start < len(template.render(encoder.tokenizer, prompt, header=False).rstrip()):
            raise RowProblem(NO_PREFIX, "the prompt is rendered differently once an answer follows it")
    head, found, tail = whole[start:].rpartition(marker)
    if not found:
        raise RowProblem(CHANGED, "the answer is not in the rendered text")
    return _Frame(prompt=whole[:start], has_header=start == len(generation), head=head, tail=tail)


def _common_start(generation: str, whole: str, encoder: Encoder) -> int:
    """Length of the common beginning of two texts, not ending within a control token of either."""
    pairs = enumerate(zip(generation, whole, strict=False))
    length = next((i for i, (mine, theirs) in pairs if mine != theirs), min(len(generation), len(whole)))
    for token in encoder.added:
        for text in (generation, whole):
            at = text.find(token, max(0, length - len(token) + 1))
            if 0 <= at < length < at + len(token):
                length = at
    return length


def _answer(
    prompt: list[Message], answer: Message, frame: _Frame, template: ChatTemplate, encoder: Encoder
) -> RenderedAnswer:
    """What the template puts after `frame.prompt` for this answer, up to its end-of-turn token."""
    whole = template.render(encoder.tokenizer, [*prompt, answer], header=False)
    if not whole.startswith(frame.prompt):
        raise RowProblem(NO_PREFIX, "the prompt is rendered differently when this answer follows it")
    body = whole[len(frame.prompt) :]
    if not body.endswith(frame.tail) or _squeeze(answer["content"]) not in _squeeze(body):
        raise RowProblem(CHANGED, "the rendered text does not hold the answer as it is")
    body = body[: len(body) - len(frame.tail)]
    filler, end_id = _ending(frame.tail, encoder)
    if not encoder.has_special(answer["content"]):
        return RenderedAnswer(pieces=[Piece(text=body + filler, after=frame.prompt)], end_id=end_id)
    if not body.startswith(frame.head) or body[len(frame.head) :].strip() != answer["content"].strip():
        raise RowProblem(SPECIAL, "the answer spells out a control token that cannot be told from the template's own")
    head = Piece(text=frame.head, after=frame.prompt)
    literal = Piece(text=body[len(frame.head) :] + filler, literal=True, after=frame.prompt + frame.head)
    return RenderedAnswer(pieces=[head, literal] if head.text else [literal], end_id=end_id)


def _ending(tail: str, encoder: Encoder) -> tuple[str, int]:
    """(text before the end-of-turn token, that token): EOS where the template puts no such token after an answer."""
    span = end_of_turn_span(tail, encoder.added)
    if span is None:
        return tail.rstrip(), _token_id(encoder, str(encoder.tokenizer.eos_token))
    return tail[: span[0]], _token_id(encoder, tail[span[0] : span[1]])


def _prompt_pieces(prompt: list[Message], frame: _Frame, template: ChatTemplate, encoder: Encoder) -> list[Piece]:
    """The prompt in one piece, or in pieces that keep control tokens spelt out in messages from taking effect."""
    if not any(encoder.has_special(turn["content"]) for turn in prompt):
        return [Piece(text=frame.prompt)]
    markers = [MARKER.format(i) for i in range(len(prompt))]
    marked = [{**turn, "content": marker} for turn, marker in zip(prompt, markers, strict=True)]
    shape = template.render(encoder.tokenizer, marked, header=True)
    parts = re.split("(" + "|".join(markers) + ")", shape)  # template text, marker, template text, ...
    if parts[1::2] == markers and frame.has_header:
        for contents in ([turn["content"] for turn in prompt], [turn["content"].strip() for turn in prompt]):
            parts[1::2] = contents
            if "".join(parts) == frame.prompt:
                return _as_pieces(parts)
    raise RowProblem(SPECIAL, "the prompt spells out a control token that cannot be told from the template's own")


def _as_pieces(parts: list[str]) -> list[Piece]:
    """Alternating template text and message text as pieces."""
    pieces: list[Piece] = []
    before = ""
    for index, text in enumerate(parts):
        if text:
            pieces.append(Piece(text=text, literal=index % 2 == 1, after=before))
            before = text
    return pieces


def _token_id(encoder: Encoder, text: str) -> int:
    found = encoder.tokenizer.convert_tokens_to_ids(text)
    if not isinstance(found, int):
        raise TypeError(f"no single id for the token {text!r}")
    return found


def _assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}


def _squeeze(text: str) -> str:
    """`text` without blanks: templates may trim an answer or move line breaks, never drop words."""
    return "".join(text.split())
