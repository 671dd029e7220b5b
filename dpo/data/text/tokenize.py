"""Pairs to token ids: what a model reads as the prompt, and the tokens of each answer that are scored."""

from collections.abc import Iterator
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from dpo.data.formats.values import RowProblem
from dpo.data.pair import Pair, Reject, Spans, TokenizedPair
from dpo.data.text.given import given_pair, is_given
from dpo.data.text.limits import TokenLimits, reject
from dpo.data.text.pieces import Encoder, Piece
from dpo.data.text.render import RenderedAnswer, RenderedPair, Renderer
from dpo.data.text.shorten import shorten
from dpo.data.text.template import ChatTemplate

BATCH = 512  # pairs per call of the tokenizer, whose cost per call is far above its cost per text


@dataclass(kw_only=True, slots=True)
class _Encoded:
    """The sequences of a batch, each once, by the identity of their pieces."""

    ids: dict[int, list[int]]
    lost: dict[int, str]  # a character that the tokenizer drops, of those where it does


def tokenize_pairs(
    pairs: list[Pair], tokenizer: PreTrainedTokenizerBase, template: ChatTemplate, limits: TokenLimits | None = None
) -> Iterator[TokenizedPair | Reject]:
    """Each pair, in order. In its full length, but that the prompt loses its oldest turns where `limits` ask for it;
    `fit` applies the limits.

    Prompt and answers are tokenized apart and joined, so that the prompt's ids are a prefix of both sequences whatever
    the tokenizer merges. Each assistant turn of an answer ends with the template's end-of-turn token (EOS where it has
    none).
    """
    renderer = Renderer(template=template, encoder=Encoder(tokenizer=tokenizer))
    cut = limits if limits is not None and limits.truncation == "cut_prompt" else None

    def again(pair: Pair) -> TokenizedPair | Reject:
        return _tokenize_batch([pair], renderer)[0]

    for start in range(0, len(pairs), BATCH):
        batch = pairs[start : start + BATCH]
        for pair, result in zip(batch, _tokenize_batch(batch, renderer), strict=True):
            if cut is None or isinstance(result, Reject):
                yield result
            else:
                yield shorten(pair, result, cut, again)


def _tokenize_batch(pairs: list[Pair], renderer: Renderer) -> list[TokenizedPair | Reject]:
    rendered = [_try_render(pair, renderer) for pair in pairs]
    encoded = _encode([one for one in rendered if isinstance(one, RenderedPair)], renderer.encoder)
    return [
        _assemble(pair, one, encoded, renderer.encoder) if isinstance(one, RenderedPair) else one
        for pair, one in zip(pairs, rendered, strict=True)
    ]


def _try_render(pair: Pair, renderer: Renderer) -> RenderedPair | TokenizedPair | Reject:
    try:
        if not is_given(pair.prompt):
            return renderer.render(pair)
        given = given_pair(pair, renderer.encoder.size)
        return _problem(pair, given) or given
    except RowProblem as problem:
        return reject(pair, problem.reason, problem.detail)


def _encode(rendered: list[RenderedPair], encoder: Encoder) -> _Encoded:
    sequences = {id(pieces): pieces for one in rendered for pieces in _sequences(one)}
    ids = dict(zip(sequences, encoder.encode(list(sequences.values())), strict=True))
    texts = {key: "".join(piece.text for piece in pieces) for key, pieces in sequences.items()}
    lost = {key: mark for key, text in texts.items() if (mark := encoder.loses(text, ids[key])) is not None}
    return _Encoded(ids=ids, lost=lost)


def _sequences(one: RenderedPair) -> Iterator[list[Piece]]:
    yield one.prompt
    for answer in (one.chosen, one.rejected):
        yield from (stretch.pieces for stretch in answer.stretches)


def _assemble(pair: Pair, one: RenderedPair, encoded: _Encoded, encoder: Encoder) -> TokenizedPair | Reject:
    if lost := [encoded.lost[id(pieces)] for pieces in _sequences(one) if id(pieces) in encoded.lost]:
        return reject(pair, "character lost", f"the tokenizer drops {lost[0]!r} (U+{ord(lost[0]):04X}) from the text")
    prompt = encoded.ids[id(one.prompt)]
    if encoder.bos_id is not None and prompt[:1] != [encoder.bos_id]:
        prompt = [encoder.bos_id, *prompt]
    chosen, chosen_context = _joined(one.chosen, encoded)
    rejected, rejected_context = _joined(one.rejected, encoded)
    result = TokenizedPair(
        prompt_ids=prompt,
        chosen_ids=chosen,
        rejected_ids=rejected,
        chosen_context=chosen_context,
        rejected_context=rejected_context,
        source=pair.source,
        dataset=pair.dataset,
        id=pair.id,
        margin=pair.margin,
        reference=pair.reference,
    )
    return _problem(pair, result) or result


def _joined(answer: RenderedAnswer, encoded: _Encoded) -> tuple[list[int], Spans]:
    """The ids of an answer and which of them are context. Its end token stands there once: a raw text may bring it."""
    ids: list[int] = []
    context: list[tuple[int, int]] = []
    for stretch in answer.stretches:
        start = len(ids)
        ids += encoded.ids[id(stretch.pieces)]
        if not stretch.scored and len(ids) > start:
            start = context.pop()[0] if context and context[-1][1] == start else start
            context.append((start, len(ids)))
    if ids and answer.end_id is not None and ids[-1] != answer.end_id:
        ids.append(answer.end_id)
    return ids, tuple(context)


def _problem(pair: Pair, ids: TokenizedPair) -> Reject | None:
    """Why these ids are no pair. An answer that the row does not have may be empty."""
    if not ids.prompt_ids:
        return reject(pair, "empty prompt", "the prompt has no tokens")
    for name, turns, answer in (("chosen", pair.chosen, ids.chosen_ids), ("rejected", pair.rejected, ids.rejected_ids)):
        if turns and not answer:
            return reject(pair, "empty answer", f"{name} has no tokens")
    if (0, len(ids.chosen_ids)) in ids.chosen_context or (0, len(ids.rejected_ids)) in ids.rejected_context:
        return reject(pair, "answer without a scored turn", "all turns of an answer have a loss weight of 0")
    if ids.chosen_ids == ids.rejected_ids:
        return reject(pair, "chosen equals rejected", "they differ as text, but not as tokens")
    return None
