"""Every response of the data once: which of them lack a value, and back from values to groups."""

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpo.data.batch import PromptGroup
from dpo.data.groups import Groups
from dpo.data.keys import BYTES
from dpo.data.pair import TokenizedPair
from dpo.data.store.columns import KEYS
from dpo.reference.keys import Keys

AT_ONCE = 2**17  # keys that are held, sorted or looked up together: 2 MiB
ABSENT = -1  # in place of a response's number
Places = NDArray[np.int64]
"""[n] of responses among the different ones, whose number is U."""


@dataclass(kw_only=True, slots=True)
class Together:
    """Responses to one prompt that are computed in one row."""

    group: PromptGroup  # holds these responses and no pair
    places: list[int]  # of each among all


@dataclass(kw_only=True, slots=True)
class Planned:
    """The same for many prompts, without their tokens: 40 bytes for two responses."""

    places: Places  # [R] those that are together behind each other
    begins: NDArray[np.int64]  # [T + 1] where in `places` each begins
    longest: NDArray[np.int64]  # [T] as `PromptGroup.longest`
    row_tokens: NDArray[np.int64]  # [T] as `PromptGroup.row_tokens`

    def ordered(self, order: NDArray[np.int64]) -> "Planned":
        """These of them, in this order."""
        sizes = np.diff(self.begins)[order]
        begins = np.append(0, np.cumsum(sizes))
        places = self.places[np.repeat(self.begins[order] - begins[:-1], sizes) + np.arange(begins[-1])]
        return Planned(places=places, begins=begins, longest=self.longest[order], row_tokens=self.row_tokens[order])


class Responses:
    """The responses of all groups that lack a value: N with repetitions, U different ones, in the order of their keys.

    An answer that an unpaired row lacks is none of them. In memory: 8 bytes for each of the N, and for each of the U.
    """

    def __init__(self, sections: list[Groups]):
        self.sections = sections
        self._pairs = [_lacking(groups) for groups in sections]  # numbers in `Groups.pairs`, ascending
        self._begins = np.cumsum([0, *map(len, self._pairs)])  # in pairs
        # [U] which of 0..N-1 (chosen, rejected, chosen, ... of all pairs) comes first, [N] which of 0..U-1 each is, or
        # ABSENT.
        self.first, self.places = self._different()
        self._last: tuple[int, TokenizedPair] | None = None  # number over all sections, and the pair

    def __len__(self) -> int:
        return len(self.first)

    def keys(self, places: Places) -> Keys:
        """[n] of these responses; ascending places have ascending keys."""
        numbers = self.first[places].astype(np.int64)
        found = np.empty((len(numbers), 2), f"S{BYTES}")
        owners = np.searchsorted(self._begins, numbers // 2, side="right") - 1
        for section, groups in enumerate(self.sections):
            mine = np.flatnonzero(owners == section)
            pairs = self._pairs[section][numbers[mine] // 2 - self._begins[section]]
            found[mine] = groups.pairs.take(KEYS, pairs)
        return found[np.arange(len(numbers)), numbers % 2]

    def look_up(self, lookup: Callable[[Keys], NDArray[np.float32]]) -> NDArray[np.float32]:
        """[U] what `lookup` finds for the keys, given to it in ascending order and some at a time."""
        found = np.empty(len(self), np.float32)
        for begin in range(0, len(self), AT_ONCE):
            places = np.arange(begin, min(begin + AT_ONCE, len(self)))
            found[places] = lookup(self.keys(places))
        return found

    def _different(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """`first` and `places`. Keys are 16 bytes of randomness: equal ones meet in one part of all by their first
        byte, and the parts are sorted one after the other."""
        count = 2 * int(self._begins[-1])
        n_parts = min(256, -(-count // AT_ONCE))
        first, places = [np.empty(0, np.int32)], np.full(count, ABSENT, np.int32)
        n_different = 0
        for part in range(n_parts):
            numbers, keys = self._part(part, n_parts)
            different, where, which = np.unique(keys, return_index=True, return_inverse=True)
            first.append(numbers[where])
            places[numbers] = n_different + which
            n_different += len(different)
        return np.concatenate(first), places

    def _part(self, part: int, n_parts: int) -> tuple[NDArray[np.int32], Keys]:
        """The keys of one part, and which of 0..N-1 each belongs to."""
        numbers, keys = [np.empty(0, np.int32)], [np.empty(0, f"S{BYTES}")]
        for groups, pairs, begin in zip(self.sections, self._pairs, self._begins.tolist(), strict=False):
            there = _there(groups, pairs)
            for start in range(0, len(pairs), AT_ONCE):
                found = groups.pairs.take(KEYS, pairs[start : start + AT_ONCE]).reshape(-1)
                heads = found.view(np.uint8).reshape(-1, BYTES)[:, 0].astype(np.int32)
                mine = np.flatnonzero((heads * n_parts // 256 == part) & there[2 * start : 2 * (start + AT_ONCE)])
                numbers.append((mine + 2 * (begin + start)).astype(np.int32))
                keys.append(found[mine])
        return np.concatenate(numbers), np.concatenate(keys)

    def together(self, wanted: Places, fits: Callable[[PromptGroup], bool]) -> Planned:
        """The responses at these places, those of a prompt together as far as they fit into a row."""
        wanted = wanted[np.argsort(self.first[wanted])]  # in the order of the data
        prompts = self._prompts()[self.first[wanted] // 2]
        order = np.argsort(prompts, kind="stable")
        ends = np.append(np.flatnonzero(prompts[order][1:] != prompts[order][:-1]) + 1, len(order))
        places, begins, longest, row_tokens = (array("q") for _ in range(4))
        begin = 0
        for end in ends.tolist() if len(order) else []:
            for part in self._of_prompt(wanted[order[begin:end]].tolist(), fits):
                begins.append(len(places))
                places.extend(part.places)
                longest.append(part.group.longest)
                row_tokens.append(part.group.row_tokens)
            begin = end
        begins.append(len(places))
        found = (np.frombuffer(values, np.int64) for values in (places, begins, longest, row_tokens))
        return Planned(**dict(zip(("places", "begins", "longest", "row_tokens"), found, strict=True)))

    def load(self, places: list[int]) -> Together:
        """Responses to one prompt, with their tokens."""
        return Together(group=_joined([self._response(place) for place in places]), places=places)

    def assign(self, values: NDArray[np.float32]) -> None:
        """Give every group its part of `values` [U]."""
        for groups, pairs, begin in zip(self.sections, self._pairs, self._begins.tolist(), strict=False):
            if groups.reference is None:
                groups.reference = np.full((len(groups.members), 2), np.nan, np.float32)
            mine = self.places[2 * begin : 2 * (begin + len(pairs))]
            lacking = np.isnan(groups.reference[:, 0])
            at = np.searchsorted(pairs, groups.members[lacking])
            # The log-probability of nothing is zero: NaN would mean that the other side's is not known either.
            known = np.where(mine == ABSENT, np.float32(0), values[mine])
            groups.reference[lacking] = known.reshape(-1, 2)[at]

    def _of_prompt(self, places: list[int], fits: Callable[[PromptGroup], bool]) -> Iterator[Together]:
        """All wanted responses to one prompt, in as few rows as hold them."""
        responses = [self._response(place) for place in places]
        begin = 0
        for end in range(1, len(places) + 1):
            if end == len(places) or not fits(_joined(responses[begin : end + 1])):
                yield Together(group=_joined(responses[begin:end]), places=places[begin:end])
                begin = end

    def _prompts(self) -> NDArray[np.uint64]:
        """The key of every pair's prompt, over all sections."""
        keys = [groups.pairs.take("prompt_key", own) for groups, own in zip(self.sections, self._pairs, strict=True)]
        return np.concatenate([np.empty(0, np.uint64), *keys])

    def _response(self, place: int) -> PromptGroup:
        """One response as a group of its own."""
        number, side = divmod(int(self.first[place]), 2)
        pair = self._pair(number)
        answers = ((pair.chosen_ids, pair.chosen_context), (pair.rejected_ids, pair.rejected_context))
        ids, context = answers[side]
        return PromptGroup(
            prompt_ids=pair.prompt_ids,
            responses=[ids],
            contexts=[context],
            pairs=[],
            pair_ids=[],
            sources=[pair.source],
        )

    def _pair(self, number: int) -> TokenizedPair:
        """Counted over all sections. Both sides are asked for one after the other, and read once."""
        if self._last is None or self._last[0] != number:
            section = int(np.searchsorted(self._begins, number, side="right")) - 1
            pair = self._pairs[section][number - self._begins[section]]
            self._last = number, self.sections[section].pairs[int(pair)]
        return self._last[1]


def _joined(responses: list[PromptGroup]) -> PromptGroup:
    """Responses to one prompt, in one group."""
    return PromptGroup(
        prompt_ids=responses[0].prompt_ids,
        responses=[ids for one in responses for ids in one.responses],
        contexts=[context for one in responses for context in one.contexts],
        pairs=[],
        pair_ids=[],
        sources=responses[0].sources,
    )


def _there(groups: Groups, pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
    """[2 n] whether a pair has the answer: chosen, rejected, chosen, ..."""
    if not groups.pairs.unpaired:
        return np.ones(2 * len(pairs), bool)
    return np.stack([groups.pairs.lengths(name)[pairs] > 0 for name in ("chosen_ids", "rejected_ids")], 1).reshape(-1)


def _lacking(groups: Groups) -> NDArray[np.int64]:
    """Numbers in `Groups.pairs` of the pairs without values, ascending."""
    if groups.reference is None:
        return np.sort(groups.members)
    return np.sort(groups.members[np.repeat(~groups.known(), groups.sizes)])
