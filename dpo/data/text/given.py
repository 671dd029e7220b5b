"""Rows that bring token ids: nothing is rendered or tokenized, and nothing is added, neither BOS nor EOS."""

from dpo.data.formats.values import WRONG_TYPE, RowProblem
from dpo.data.pair import Message, Pair, TokenizedPair


def is_given(messages: list[Message]) -> bool:
    """Whether these messages are token ids: one message {"role": "tokens", "ids": [...]}."""
    return bool(messages) and messages[0]["role"] == "tokens"


def given_pair(pair: Pair, size: int) -> TokenizedPair:
    """`pair` as its row gives it; `size`: of the vocabulary. Raises RowProblem."""
    prompt, chosen, rejected = (
        _ids(turns, name, size)
        for name, turns in (("prompt", pair.prompt), ("chosen", pair.chosen), ("rejected", pair.rejected))
    )
    return TokenizedPair(
        prompt_ids=prompt,
        chosen_ids=chosen,
        rejected_ids=rejected,
        source=pair.source,
        dataset=pair.dataset,
        id=pair.id,
        margin=pair.margin,
        reference=pair.reference,
    )


def _ids(turns: list[Message], name: str, size: int) -> list[int]:
    if not turns:  # the absent answer of an unpaired row
        return []
    if len(turns) > 1 or not is_given(turns):
        raise RowProblem(WRONG_TYPE, f"{name} is text where the prompt is token ids")
    ids = turns[0]["ids"]
    wrong = next((i for i in ids if type(i) is not int or not 0 <= i < size), None)
    if wrong is not None:
        detail = f"{name} holds {wrong!r}, expected whole numbers from 0 to {size - 1}, the tokenizer's vocabulary"
        raise RowProblem("token not in the vocabulary", detail)
    return list(ids)
