"""One pair as the model reads it, for people."""

from itertools import pairwise

from transformers import PreTrainedTokenizerBase

from dpo.data.pair import Spans, TokenizedPair
from dpo.data.text.pieces import UNSEEN

MOST = 2000  # characters shown of a part: about a screen


def render_marked(pair: TokenizedPair, tokenizer: PreTrainedTokenizerBase, most: int = MOST) -> str:
    """The prompt, then each answer with every scored stretch between ⟦ and ⟧, what is longer than `most` characters
    without its middle. Characters that cannot be seen, or would steer a terminal, are escaped."""
    start = ", its start cut" if "prompt" in pair.cut else ""
    parts = [f"── prompt, {len(pair.prompt_ids)} tokens{start}", _clean(str(tokenizer.decode(pair.prompt_ids)), most)]
    sides = (("chosen", pair.chosen_ids, pair.chosen_context), ("rejected", pair.rejected_ids, pair.rejected_context))
    for name, ids, context in sides:
        if ids:
            unscored = sum(end - start for start, end in context)
            cut = ", cut" if name in pair.cut else ""
            parts.append(f"── {name}, {len(ids) - unscored} of {len(ids)} tokens scored{cut}")
            parts.append(_marked(ids, context, tokenizer, most))
    return "\n".join(parts)


def _marked(ids: list[int], context: Spans, tokenizer: PreTrainedTokenizerBase, most: int) -> str:
    bounds = [0, *(bound for span in context for bound in span), len(ids)]
    texts = [_clean(text, most) for text in _between(ids, bounds, tokenizer)]
    return "".join(f"⟦{text}⟧" if number % 2 == 0 and text else text for number, text in enumerate(texts))


def _between(ids: list[int], bounds: list[int], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The text between every two of `bounds`, as it stands in the text of all `ids`: decoded alone, tokens may lose
    the blank before them."""
    texts = []
    for start, end in pairwise(bounds):
        before, both = str(tokenizer.decode(ids[:start])), str(tokenizer.decode(ids[:end]))
        whole = both.startswith(before)  # else a character has bytes on both sides
        texts.append(both[len(before) :] if whole else str(tokenizer.decode(ids[start:end])))
    return texts


def _clean(text: str, most: int) -> str:
    text = UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]} … {len(text) - 2 * half:,} more characters … {text[-half:]}"
