"""Pairs to token ids: what a model reads as the prompt, and the tokens of each answer that are scored."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from dpo.data.formats.messages import RowProblem
from dpo.data.pair import Pair, Reject, TokenizedPair
from dpo.data.text.pieces import Encoder
from dpo.data.text.render import RenderedAnswer, RenderedPair, render_pair
from dpo.data.text.template import ChatTemplate

BATCH = 512  # pairs per call of the tokenizer, whose cost per call is far above its cost per text
EQUAL_AFTER_CUTTING = "answers equal after cutting"
PAIR_TOO_LONG = "pair too long"
PROMPT_TOO_LONG = "prompt too long"


@dataclass(kw_only=True, slots=True)
class TokenLimits:
    """How long a pair may be, in tokens."""

    max_length: int  # prompt + longer answer
    max_prompt_length: int | None = None  # a longer prompt makes a bad row; None: only `max_length` limits it
    truncation: str = "drop"  # what happens to a pair longer than `max_length`: "drop" or "cut_answers"


@dataclass(kw_only=True, slots=True)
class Overlong:
    """A pair that is sound but does not fit: left out as the limits ask, never an error."""

    reject: Reject


def tokenize_pairs(
    pairs: list[Pair], tokenizer: PreTrainedTokenizerBase, template: ChatTemplate
) -> Iterator[TokenizedPair | Reject]:
    """Each pair in its full length, in order; `fit` applies the limits.

    Prompt and answers are tokenized apart and joined, so that the prompt's ids are a prefix of both sequences whatever
    the tokenizer merges. Each answer ends with the template's end-of-turn token (EOS where it has none).
    """
    encoder = Encoder(tokenizer=tokenizer)
    for start in range(0, len(pairs), BATCH):
        yield from _tokenize_batch(pairs[start : start + BATCH], template, encoder)


def prompt_ids(pair: Pair, tokenizer: PreTrainedTokenizerBase, template: ChatTemplate) -> list[int]:
    """The ids a model reads before it answers `pair.prompt`: the same as in training. Raises ValueError."""
    result = next(tokenize_pairs([pair], tokenizer, template))
    if isinstance(result, Reject):
        raise ValueError(f"{result.source}: {result.reason}: {result.detail}")
    return result.prompt_ids


def _tokenize_batch(pairs: list[Pair], template: ChatTemplate, encoder: Encoder) -> list[TokenizedPair | Reject]:
    rendered = [_try_render(pair, template, encoder) for pair in pairs]
    sound = [r for r in rendered if isinstance(r, RenderedPair)]
    parts = [pieces for r in sound for pieces in (r.prompt, r.chosen.pieces, r.rejected.pieces)]
    ids = iter(encoder.encode(parts))
    return [
        r if isinstance(r, Reject) else _assemble(pair, r, (next(ids), next(ids), next(ids)), encoder)
        for pair, r in zip(pairs, rendered, strict=True)
    ]


def _try_render(pair: Pair, template: ChatTemplate, encoder: Encoder) -> RenderedPair | Reject:
    try:
        return render_pair(pair, template, encoder)
    except RowProblem as problem:
        return _reject(pair, problem.reason, problem.detail)


def _reject(row: Pair | TokenizedPair, reason: str, detail: str) -> Reject:
    return Reject(source=row.source, reason=reason, detail=detail)


def _assemble(
    pair: Pair, rendered: RenderedPair, ids: tuple[list[int], list[int], list[int]], encoder: Encoder
) -> TokenizedPair | Reject:
    prompt, chosen, rejected = ids
    if encoder.bos_id is not None and prompt[:1] != [encoder.bos_id]:
        prompt = [encoder.bos_id, *prompt]
    if not prompt:
        return _reject(pair, "empty prompt", "the prompt has no tokens")
    if not chosen or not rejected:
        return _reject(pair, "empty answer", f"{'rejected' if chosen else 'chosen'} has no tokens")
    chosen, rejected = _ended(chosen, rendered.chosen), _ended(rejected, rendered.rejected)
    if chosen == rejected:
        return _reject(pair, "chosen equals rejected", "they differ as text, but not as tokens")
    return TokenizedPair(
        prompt_ids=prompt,
        chosen_ids=chosen,
        rejected_ids=rejected,
        source=pair.source,
        id=pair.id,
        margin=pair.margin,
        reference=pair.reference,
    )


def _ended(ids: list[int], answer: RenderedAnswer) -> list[int]:
    """`ids` with the end-of-turn token once: a raw text may spell it out itself."""
    return ids if ids[-1] == answer.end_id else [*ids, answer.end_id]


def length(pair: TokenizedPair) -> int:
    """Tokens of the prompt and the longer answer."""
    return len(pair.prompt_ids) + max(len(pair.chosen_ids), len(pair.rejected_ids))


def fit(pair: TokenizedPair, limits: TokenLimits) -> TokenizedPair | Reject | Overlong:
    """`pair` within the limits. A cut answer loses its end, with its end-of-turn token; a prompt is never cut."""
    prompt, longest = len(pair.prompt_ids), limits.max_prompt_length
    if longest is not None and prompt > longest:
        return _reject(pair, PROMPT_TOO_LONG, f"{prompt} tokens, data.max_prompt_length is {longest}")
    if length(pair) <= limits.max_length:
        return pair
    room = limits.max_length - prompt
    if limits.truncation == "drop" or room < 1:
        detail = f"{length(pair)} tokens with a prompt of {prompt}, data.max_length is {limits.max_length}"
        return Overlong(reject=_reject(pair, PAIR_TOO_LONG, detail))
    return _cut(pair, room)


def _cut(pair: TokenizedPair, room: int) -> TokenizedPair | Overlong:
    """Both answers cut to `room` tokens."""
    chosen, rejected = pair.chosen_ids[:room], pair.rejected_ids[:room]
    if chosen == rejected:
        detail = f"chosen and rejected are the same in their first {room} tokens"
        return Overlong(reject=_reject(pair, EQUAL_AFTER_CUTTING, detail))
    whole = (("chosen", pair.chosen_ids), ("rejected", pair.rejected_ids))
    cut = tuple(name for name, ids in whole if len(ids) > room)
    return replace(pair, chosen_ids=chosen, rejected_ids=rejected, cut=cut, reference=None)  # it was of whole answers


def render_marked(tokenized: TokenizedPair, tokenizer: PreTrainedTokenizerBase) -> str:
    """One pair as the model reads it, as text, with the scored tokens of the chosen answer between ⟦ and ⟧."""
    prompt = str(tokenizer.decode(tokenized.prompt_ids))
    whole = str(tokenizer.decode(tokenized.prompt_ids + tokenized.chosen_ids))
    if not whole.startswith(prompt):  # a character whose bytes stand on both sides
        return f"{prompt}⟦{tokenizer.decode(tokenized.chosen_ids)}⟧"
    return f"{prompt}⟦{whole[len(prompt) :]}⟧"
