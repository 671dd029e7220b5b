"""The longer answer of each pair, cut to as many scored tokens as the shorter has: what the reference has to score for
losses that tell the rest of it, the pair's tail, apart."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpo.data.groups import Groups, Numbers
from dpo.data.keys import BYTES, cut_keys
from dpo.data.mismatched import ANSWERS, within
from dpo.data.pair import Spans, TokenizedPair
from dpo.data.store.columns import KEYS
from dpo.data.store.pairs import Pairs

CONTEXTS = ("chosen_context", "rejected_context")


class Heads(Groups):
    """One group per pair of `whole`, in the order of its members, with its head as the only answer; without any where
    both answers are as long. In memory: 13 bytes per pair beside those of `Groups`."""

    def __init__(self, whole: Groups):
        self.whole = whole
        self._heads = _HeadPairs(whole.pairs, whole.members)
        count = len(whole.members)
        super().__init__(self._heads, np.arange(count), np.arange(count + 1))

    def give_tails(self) -> None:
        """Tell `whole` the log-probabilities of its tails, once it and these have their own."""
        if self.whole.reference is None or self.reference is None:
            return
        longer = self.whole.reference[np.arange(len(self)), self._heads.side]
        self.whole.tail_reference = np.where(self._heads.kept, longer - self.reference[:, 0], np.float32(0))


class _HeadPairs:
    """The heads as unpaired rows, put together when they are asked for."""

    supplied = False  # values that rows bring are of whole answers
    unpaired = True

    def __init__(self, pairs: Pairs, members: Numbers):
        self._pairs, self._members = pairs, members
        scored = np.stack([pairs.lengths(name)[members] for name in ANSWERS], 1)
        contexts = np.stack([pairs.lengths(name)[members] for name in CONTEXTS], 1)
        partly = np.flatnonzero(contexts.any(1))  # whose answers have tokens that are not scored
        for number in partly.tolist():
            pair = pairs[int(members[number])]
            scored[number] -= [sum(end - begin for begin, end in spans) for spans in _contexts(pair)]
        self.side = scored.argmax(1).astype(np.uint8)  # [n] 0: the chosen answer is the longer one
        self.kept = np.where(scored[:, 0] == scored[:, 1], 0, scored.min(1)).astype(np.int32)  # [n] its first tokens
        for number in partly[self.kept[partly] > 0].tolist():
            context = _contexts(pairs[int(members[number])])[self.side[number]]
            self.kept[number] = _tokens_with(int(self.kept[number]), context)

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[TokenizedPair]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> TokenizedPair:
        pair, side, kept = self._pairs[int(self._members[number])], self.side[number], int(self.kept[number])
        return TokenizedPair(
            prompt_ids=pair.prompt_ids,
            chosen_ids=(pair.chosen_ids, pair.rejected_ids)[side][:kept],
            rejected_ids=[],
            chosen_context=within(_contexts(pair)[side], kept),
            source=pair.source,
            dataset=pair.dataset,
            id=pair.id,
        )

    def column(self, name: str) -> NDArray[Any]:
        return self.take(name, np.arange(len(self)))

    def take(self, name: str, numbers: Numbers) -> NDArray[Any]:
        """Of the pair; keys are made of those of the longer answers."""
        values = self._pairs.take(name, self._members[numbers])
        if name != KEYS:
            return values
        longer = values[np.arange(len(numbers)), self.side[numbers]]
        return np.stack([cut_keys(longer, self.kept[numbers]), np.zeros(len(numbers), f"S{BYTES}")], 1)

    def lengths(self, name: str) -> NDArray[np.int64]:
        if name in ANSWERS:
            return self.kept.astype(np.int64) * (name == ANSWERS[0])
        return self._pairs.lengths(name)[self._members]


def _contexts(pair: TokenizedPair) -> tuple[Spans, Spans]:
    return pair.chosen_context, pair.rejected_context


def _tokens_with(n_scored: int, context: Spans) -> int:
    """How many of an answer's first tokens hold so many scored ones."""
    for begin, end in context:
        if begin >= n_scored:
            break
        n_scored += end - begin
    return n_scored
