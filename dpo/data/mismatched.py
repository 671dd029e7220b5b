"""Prompts with answers to other prompts: what kto estimates the divergence of the policy from its reference on."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpo.data.groups import Groups, Numbers
from dpo.data.pair import Spans, TokenizedPair
from dpo.data.store.columns import KEY_TYPE, KEYS
from dpo.errors import DataError

ANSWERS = ("chosen_ids", "rejected_ids")
GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: steps of splitmix64


def mismatched(groups: Groups) -> Groups:
    """For every group its prompt with the answers of the first pair of the next group of another prompt.

    The partner follows from the order of the data, not from the batch: reference values are computed once and found
    again in every epoch and by every run. An answer is cut where prompt and answer together would be longer than the
    longest of the data, which the model's context is known to hold.

    Raises:
        DataError: all groups have the same prompt.
    """
    numbers = np.arange(len(groups))
    return Groups(_Mismatched(groups), numbers, np.arange(len(groups) + 1))


class _Mismatched:
    """One pair per group, put together when it is asked for. In memory: 24 bytes per pair."""

    supplied = False  # values that rows bring are of their own prompts

    def __init__(self, groups: Groups):
        self._pairs = pairs = groups.pairs
        self._prompts = groups.members[groups.begins[:-1]]  # [n] number of the pair whose prompt it is
        self._answers = self._prompts[_next_other_prompts(groups, self._prompts)]  # [n] of the pair whose answers
        self._kept = self._kept_tokens()  # [n, 2] of chosen and rejected answer, 0 of one that is absent
        self.unpaired = pairs.unpaired

    def __len__(self) -> int:
        return len(self._prompts)

    def __iter__(self) -> Iterator[TokenizedPair]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> TokenizedPair:
        own, other = self._pairs[int(self._prompts[number])], self._pairs[int(self._answers[number])]
        chosen, rejected = self._kept[number].tolist()
        return TokenizedPair(
            prompt_ids=own.prompt_ids,
            chosen_ids=other.chosen_ids[:chosen],
            rejected_ids=other.rejected_ids[:rejected],
            chosen_context=_within(other.chosen_context, chosen),
            rejected_context=_within(other.rejected_context, rejected),
            source=own.source,
            dataset=own.dataset,
            id=own.id,
        )

    def column(self, name: str) -> NDArray[Any]:
        return self.take(name, np.arange(len(self)))

    def take(self, name: str, numbers: Numbers) -> NDArray[Any]:
        """Of the prompt. The keys of the responses are made of those of prompt and answer and of the number of tokens
        that are kept, without reading them: both are random numbers already, so that two keys are equal no sooner."""
        if name != KEYS:
            return self._pairs.take(name, self._prompts[numbers])
        prompts = self._pairs.take("prompt_key", self._prompts[numbers])
        seeds = prompts[:, None] + self._kept[numbers].astype(np.uint64) * np.uint64(2 * GOLDEN % 2**64)
        lanes = np.stack([_mixed(seeds), _mixed(seeds + np.uint64(GOLDEN))], -1)  # [n, 2 answers, 2 halves of a key]
        answers = self._pairs.take(KEYS, self._answers[numbers])
        return (answers.view("<u8").reshape(-1, 2, 2) ^ lanes).view(KEY_TYPE)[:, :, 0]

    def lengths(self, name: str) -> NDArray[np.int64]:
        """Of prompts and answers."""
        if name in ANSWERS:
            return self._kept[:, ANSWERS.index(name)].astype(np.int64)
        return self._pairs.lengths(name)[self._prompts]

    def _kept_tokens(self) -> NDArray[np.int32]:
        if not len(self):
            return np.empty((0, 2), np.int32)
        prompts = self._pairs.lengths("prompt_ids")[self._prompts]
        answers = np.stack([self._pairs.lengths(name) for name in ANSWERS], 1)
        room = (prompts + answers[self._prompts].max(1)).max() - prompts
        return np.minimum(answers[self._answers], room[:, None]).astype(np.int32)


def _next_other_prompts(groups: Groups, firsts: Numbers) -> Numbers:
    """[G] which group is the partner of each; behind the last comes the first. `firsts`: the first pair of each."""
    if not len(firsts):
        return firsts
    keys = groups.pairs.take("prompt_key", firsts)
    ends = np.flatnonzero(keys != np.roll(keys, -1))  # groups before one of another prompt
    if not len(ends):
        raise DataError(
            f"every prompt is that of {groups.pairs[int(firsts[0])].source}, but loss=kto needs answers to others, in "
            "the training and in the held-out data: add prompts, change eval.fraction, or use loss=bco"
        )
    own = np.searchsorted(ends, np.arange(len(keys))) % len(ends)
    return (ends[own] + 1) % len(keys)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's output function (Steele et al. 2014, doi:10.1145/2660193.2660195): neighbours become unlike."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _within(spans: Spans, n_kept: int) -> Spans:
    """What of an answer's first tokens is not scored. Where that would be all, everything is: any text will do."""
    found = tuple((begin, min(end, n_kept)) for begin, end in spans if begin < n_kept)
    return () if sum(end - begin for begin, end in found) == n_kept else found
