"""Every response of the data once: which of them lack a value, and back from values to groups."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpo.data.batch import PromptGroup
from dpo.reference.keys import Keys, response_keys


@dataclass(kw_only=True, slots=True)
class Together:
    """Responses to one prompt that are computed in one row."""

    group: PromptGroup  # holds these responses and no pair
    places: list[int]  # of each in `Responses.keys`


@dataclass(kw_only=True, slots=True)
class Responses:
    """The responses of some groups: N with repetitions, U different ones."""

    groups: list[PromptGroup]
    keys: Keys  # [U] sorted
    places: NDArray[np.int64]  # [N] of every response of every group, in order: its place in `keys`
    first: NDArray[np.int64]  # [U] where in 0..N-1 a response comes for the first time

    @classmethod
    def of(cls, groups: list[PromptGroup]) -> "Responses":
        keys, first, places = np.unique(response_keys(groups), return_index=True, return_inverse=True)
        return cls(groups=groups, keys=keys, places=places, first=first)

    def together(self, wanted: NDArray[np.int64], fits: Callable[[PromptGroup], bool]) -> list[Together]:
        """The responses at these places of `keys`, those of a prompt together as far as they fit into a row."""
        wanted = wanted[np.argsort(self.first[wanted])]  # in the order of the data
        begins = np.cumsum([0, *(len(group.responses) for group in self.groups)])
        owners = np.searchsorted(begins, self.first[wanted], side="right") - 1
        offsets = self.first[wanted] - begins[owners]
        found: list[Together] = []
        unfinished: dict[int, Together] = {}
        for place, owner, offset in zip(wanted.tolist(), owners.tolist(), offsets.tolist(), strict=True):
            group = self.groups[owner]
            key = hash(tuple(group.prompt_ids))
            last = unfinished.get(key)
            joined = last and last.group.prompt_ids == group.prompt_ids and _with(last.group, group, offset)
            if last and joined and fits(joined):
                last.group = joined
                last.places.append(place)
            else:
                unfinished[key] = Together(group=_alone(group, offset), places=[place])
                found.append(unfinished[key])
        return found

    def assign(self, values: NDArray[np.float32]) -> None:
        """Give every group its part of `values` [U], in place: copies of a million groups would take a gigabyte."""
        each = values[self.places].tolist()
        begin = 0
        for group in self.groups:
            group.reference = each[begin : begin + len(group.responses)]
            begin += len(group.responses)


def _alone(group: PromptGroup, response: int) -> PromptGroup:
    return PromptGroup(
        prompt_ids=group.prompt_ids,
        responses=[group.responses[response]],
        contexts=[group.contexts[response]],
        pairs=[],
        pair_ids=[],
        sources=group.sources,
    )


def _with(group: PromptGroup, owner: PromptGroup, response: int) -> PromptGroup:
    """`group` and one response of `owner`."""
    return PromptGroup(
        prompt_ids=group.prompt_ids,
        responses=[*group.responses, owner.responses[response]],
        contexts=[*group.contexts, owner.contexts[response]],
        pairs=[],
        pair_ids=[],
        sources=group.sources,
    )
