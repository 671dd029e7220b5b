"""All prompt groups of the data, each built at the moment it is asked for."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dpo.data.batch import PromptGroup
from dpo.data.group import alone, require_agreement, together, values_of
from dpo.data.pair import TokenizedPair
from dpo.data.store.pairs import PairList, Pairs

Numbers = NDArray[np.int64]


class PromptGroups(Protocol):
    """A list of groups, in memory or not."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> PromptGroup: ...

    def __iter__(self) -> Iterator[PromptGroup]: ...


class Groups:
    """Prompt groups over pairs that are on disk. In memory: 16 bytes per pair, 24 with reference log-probabilities."""

    def __init__(self, pairs: Pairs, members: Numbers, begins: Numbers, *, chosen_only: bool = False):
        self.pairs = pairs
        self.members = members  # [P] numbers of pairs, those of a group behind each other in the order of the data
        self.begins = begins  # [G + 1] where in `members` each group begins
        self.chosen_only = chosen_only  # groups of nothing but a chosen response, for losses that compare nothing
        # [P, 2] log-probabilities of chosen and rejected under the reference, nats, in the order of `members`; NaN:
        # not known, None: of no pair.
        self.reference: NDArray[np.float32] | None = None

    @property
    def sizes(self) -> Numbers:
        """[G] pairs of each group."""
        return np.diff(self.begins)

    def __len__(self) -> int:
        return len(self.begins) - 1

    def __iter__(self) -> Iterator[PromptGroup]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> PromptGroup:
        number = range(len(self))[number]
        begin, end = int(self.begins[number]), int(self.begins[number + 1])
        members = [self.pairs[pair] for pair in self.members[begin:end].tolist()]
        if self.chosen_only:
            return alone(members[0])
        group = together(members)
        if self.reference is not None:
            group.reference = values_of(group, self.reference[begin:end].tolist())
        return group

    def some(self, numbers: Numbers) -> "Groups":
        """These groups alone, without reference values."""
        sizes = self.sizes[numbers]
        begins = np.append(0, np.cumsum(sizes))
        members = self.members[np.repeat(self.begins[numbers] - begins[:-1], sizes) + np.arange(begins[-1])]
        return Groups(self.pairs, members, begins, chosen_only=self.chosen_only)

    def known(self) -> NDArray[np.bool_]:
        """[G] whether a group has its reference log-probabilities; it has all of them or none."""
        if self.reference is None:
            return np.zeros(len(self), bool)
        return ~np.isnan(self.reference[self.begins[:-1], 0])

    def tokens(self) -> Numbers:
        """[G] of each group, about: an answer that stands in two of its pairs counts twice."""
        if not len(self):
            return np.empty(0, np.int64)
        answers = self.pairs.lengths("chosen_ids") + (0 if self.chosen_only else self.pairs.lengths("rejected_ids"))
        prompts = self.pairs.lengths("prompt_ids")[self.members[self.begins[:-1]]]
        return prompts + np.add.reduceat(answers[self.members], self.begins[:-1])


def group_pairs(pairs: Pairs | list[TokenizedPair], most: int = 1) -> Groups:
    """Up to `most` pairs of one prompt together in a group, each response once; groups in the order of their first
    pair. The groups of a prompt with more pairs share nothing. With the reference log-probabilities that rows bring.

    Raises:
        DataError: two rows give the same response values that cannot both be right.
    """
    held = PairList(pairs) if isinstance(pairs, list) else pairs
    members, begins = _by_prompt(held.column("prompt_key"), most) if most > 1 else _singly(len(held))
    groups = Groups(held, members, begins)
    if held.supplied:
        groups.reference = _supplied(groups)
    return groups


def chosen_alone(pairs: Pairs | list[TokenizedPair]) -> Groups:
    """One group per pair with nothing but its chosen response, for losses that compare nothing. An unpaired row whose
    answer is bad has none."""
    held = PairList(pairs) if isinstance(pairs, list) else pairs
    members = np.flatnonzero(held.lengths("chosen_ids"))
    return Groups(held, members, np.arange(len(members) + 1), chosen_only=True)


def joined(pairs: Pairs, parts: list[Groups]) -> Groups:
    """The groups of all parts behind each other; `pairs` holds the pairs of the parts behind each other."""
    ends = np.cumsum([0, *(len(part.members) for part in parts)]).tolist()
    members = [part.members + end for part, end in zip(parts, ends, strict=False)]
    begins = [part.begins[1:] + end for part, end in zip(parts, ends, strict=False)]
    groups = Groups(pairs, np.concatenate(members), np.concatenate([[0], *begins]), chosen_only=parts[0].chosen_only)
    if any(part.reference is not None for part in parts):
        unknown = [np.full((len(part.members), 2), np.nan, np.float32) for part in parts]
        known = [
            part.reference if part.reference is not None else none for part, none in zip(parts, unknown, strict=True)
        ]
        groups.reference = np.concatenate(known)
    return groups


def sizes_of(groups: PromptGroups) -> Numbers:
    """[G] pairs of each group."""
    return groups.sizes if isinstance(groups, Groups) else np.array([group.n_pairs for group in groups], np.int64)


def _singly(count: int) -> tuple[Numbers, Numbers]:
    return np.arange(count), np.arange(count + 1)


def _by_prompt(keys: NDArray[np.uint64], most: int) -> tuple[Numbers, Numbers]:
    """Members and begins as in `Groups`. `keys` [P] of the pairs' prompts. Of millions of pairs: what is not needed any
    more goes at once."""
    count, order = len(keys), np.argsort(keys, kind="stable")
    ordered = keys[order]
    heads = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))  # where in `order` each prompt begins
    del ordered, keys
    if len(heads) >= count:
        return _singly(count)
    sizes = np.diff(heads, append=count)
    if sizes.max() > most:  # a group begins at every `most`th pair of a prompt
        place = np.arange(count) - np.repeat(heads, sizes)
        heads = np.flatnonzero(place % most == 0)
        del place
        sizes = np.diff(heads, append=count)
    by_first = np.argsort(order[heads])  # by the number of its first pair
    sizes = sizes[by_first]
    begins = np.append(0, np.cumsum(sizes))
    places = np.repeat(heads[by_first] - begins[:-1], sizes)
    del heads, by_first, sizes
    places += np.arange(count)
    return order[places], begins


def _supplied(groups: Groups) -> NDArray[np.float32] | None:
    """[P, 2] what rows bring, of groups in which every row brings it; None: of no group."""
    columns = [groups.pairs.column(name)[groups.members] for name in ("ref_chosen", "ref_rejected")]
    values = np.stack(columns, 1).astype(np.float32)
    if not len(values):
        return None
    whole = np.logical_and.reduceat(~np.isnan(values[:, 0]), groups.begins[:-1])
    values[~np.repeat(whole, groups.sizes)] = np.nan
    for number in np.flatnonzero(whole & (groups.sizes > 1)).tolist():
        begin, end = int(groups.begins[number]), int(groups.begins[number + 1])
        require_agreement(groups[number], values[begin:end].tolist())
    return values if whole.any() else None
