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

Places = NDArray[np.int64]
"""[n] of responses in `Responses.keys`."""


@dataclass(kw_only=True, slots=True)
class Together:
    """Responses to one prompt that are computed in one row."""

    group: PromptGroup  # holds these responses and no pair
    places: list[int]  # of each in `Responses.keys`


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
    """The responses of all groups that lack a value: N with repetitions, U different ones."""

    def __init__(self, sections: list[Groups]):
        self.sections = sections
        # Of every section the places in `members` of the pairs that lack a value.
        self._pairs = [np.flatnonzero(np.repeat(~groups.known(), groups.sizes)) for groups in sections]
        self._begins = np.cumsum([0, *map(len, self._pairs)])  # in pairs
        self._last: tuple[int, TokenizedPair] | None = None
        self.keys, self.first, self.places = _different(self._all_keys())  # [U] sorted, [U] in 0..N-1, [N] in 0..U-1

    def _all_keys(self) -> Keys:
        """[N] chosen, rejected, chosen, rejected, ... of all pairs in order."""
        found = [
            groups.pairs.column(KEYS)[groups.members[pairs]].reshape(-1)
            for groups, pairs in zip(self.sections, self._pairs, strict=True)
        ]
        return np.concatenate([np.empty(0, f"S{BYTES}"), *found])

    def together(self, wanted: Places, fits: Callable[[PromptGroup], bool]) -> Planned:
        """The responses at these places, those of a prompt together as far as they fit into a row."""
        wanted = wanted[np.argsort(self.first[wanted])]  # in the order of the data
        prompts = self._prompts(self.first[wanted] // 2)
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
        each = values[self.places].reshape(-1, 2)
        for groups, pairs, begin in zip(self.sections, self._pairs, self._begins, strict=False):
            if groups.reference is None:
                groups.reference = np.full((len(groups.members), 2), np.nan, np.float32)
            groups.reference[pairs] = each[begin : begin + len(pairs)]

    def _of_prompt(self, places: list[int], fits: Callable[[PromptGroup], bool]) -> Iterator[Together]:
        """All wanted responses to one prompt, in as few rows as hold them."""
        responses = [self._response(place) for place in places]
        begin = 0
        for end in range(1, len(places) + 1):
            if end == len(places) or not fits(_joined(responses[begin : end + 1])):
                yield Together(group=_joined(responses[begin:end]), places=places[begin:end])
                begin = end

    def _prompts(self, pairs: NDArray[np.int64]) -> NDArray[np.uint64]:
        """The prompt's key of each of these pairs, counted over all sections."""
        keys = [
            groups.pairs.column("prompt_key")[groups.members[own]]
            for groups, own in zip(self.sections, self._pairs, strict=True)
        ]
        return np.concatenate([np.empty(0, np.uint64), *keys])[pairs]

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
            groups = self.sections[section]
            member = groups.members[self._pairs[section][number - self._begins[section]]]
            self._last = number, groups.pairs[int(member)]
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


def _different(keys: Keys) -> tuple[Keys, NDArray[np.int64], NDArray[np.int64]]:
    """(the different ones of `keys` [N] in order, where each comes for the first time, which of them each is)."""
    found, first, places = np.unique(keys, return_index=True, return_inverse=True)
    return found, first, places
