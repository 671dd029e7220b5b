"""How the groups of a step spread over workers and micro-batches: a pure function of their lengths, the limits and the
number of workers, so every worker computes it alone."""

import bisect
import heapq
import math
from dataclasses import dataclass, field

from dpo.data.batch import Batch, PromptGroup
from dpo.data.collate import collate
from dpo.data.group import split_group
from dpo.data.sequence import shard_sequence


@dataclass(kw_only=True, slots=True)
class MicroBatches:
    """What bounds one forward pass. Workers that share a row count as one here."""

    layout: str
    max_tokens: int
    max_pairs: int | None
    world_size: int
    slice_rank: int = 0  # which slice of its rows this worker computes
    slices: int = 1  # workers that share one row, each computing a slice

    def collate(self, groups: list[PromptGroup]) -> Batch:
        """One micro-batch as this worker computes it."""
        batch = collate(groups, self.layout)
        return batch if self.slices == 1 else shard_sequence(batch, self.slice_rank, self.slices)

    def hold(self, group: PromptGroup) -> bool:
        """Whether a group fits into a row of its own."""
        return self.cost([group]) <= self.max_tokens and not (self.max_pairs and group.n_pairs > self.max_pairs)

    def cost(self, groups: list[PromptGroup]) -> int:
        """Tokens that one forward pass over these groups computes, padding included."""
        if self.layout == "packed":
            return sum(group.row_tokens for group in groups)
        return sum(len(group.responses) for group in groups) * max((group.longest for group in groups), default=0)


def spread_groups(groups: list[PromptGroup], micro: MicroBatches) -> list[list[list[PromptGroup]]]:
    """The groups of a step as [worker][micro-batch], those larger than a row in parts (see `fill_rows`)."""
    parts = [part for group in groups for part in split_group(group, micro.hold)]
    return [[[parts[i] for i in row] for row in rows] for rows in fill_rows(parts, list(range(len(parts))), micro)]


def fill_rows(all_groups: list[PromptGroup], chosen: list[int], micro: MicroBatches) -> list[list[list[int]]]:
    """Spread the chosen groups over [worker][micro-batch]: as few micro-batches as the limits allow, evenly filled.
    Every worker gets equally many, some of them empty when there are too few groups.

    A group longer than the limit gets a row of its own. Rows of similar size run at the same time on different
    workers, since a step waits for its slowest.
    """
    groups = {g: all_groups[g] for g in chosen}
    rows = _spread(groups, micro) if micro.layout == "packed" else _slice(groups, micro)
    rows.sort(key=lambda row: (-row.cost, row.groups))
    return [[row.groups for row in rows[worker :: micro.world_size]] for worker in range(micro.world_size)]


@dataclass(slots=True)
class _Row:
    """One micro-batch of one worker while it is filled."""

    groups: list[int] = field(default_factory=list)
    cost: int = 0  # tokens computed, padding included
    responses: int = 0
    longest: int = 0
    pairs: int = 0

    def cost_with(self, group: PromptGroup, layout: str) -> int:
        if layout == "packed":
            return self.cost + group.row_tokens
        return (self.responses + len(group.responses)) * max(self.longest, group.longest)

    def full_for(self, group: PromptGroup, max_pairs: int | None) -> bool:
        return bool(self.groups and max_pairs and self.pairs + group.n_pairs > max_pairs)

    def add(self, index: int, group: PromptGroup, layout: str) -> None:
        self.cost = self.cost_with(group, layout)
        self.groups.append(index)
        self.longest = max(self.longest, group.longest)
        self.responses += len(group.responses)
        self.pairs += group.n_pairs


def _spread(groups: dict[int, PromptGroup], micro: MicroBatches) -> list[_Row]:
    """Packed rows cost what they hold: longest first into the emptiest row (LPT, Graham 1969), with as many rows as the
    totals ask for, and more while something does not fit."""
    order = sorted(groups, key=lambda g: (-groups[g].row_tokens, g))
    least = [sum(group.row_tokens for group in groups.values()) / micro.max_tokens]
    if micro.max_pairs:
        least.append(sum(group.n_pairs for group in groups.values()) / micro.max_pairs)
    n_micro = max(1, math.ceil(max(least) / micro.world_size))
    while (rows := _spread_over(n_micro * micro.world_size, order, groups, micro)) is None:
        n_micro += 1
    return rows


def _spread_over(
    n_rows: int, order: list[int], groups: dict[int, PromptGroup], micro: MicroBatches
) -> list[_Row] | None:
    rows = [_Row() for _ in range(n_rows)]
    emptiest = [(0, i) for i in range(n_rows)]
    for g in order:
        while emptiest:
            index = heapq.heappop(emptiest)[1]
            row = rows[index]
            if row.full_for(groups[g], micro.max_pairs):
                continue  # no later group fits either
            if row.groups and row.cost_with(groups[g], "packed") > micro.max_tokens:
                return None
            row.add(g, groups[g], "packed")
            heapq.heappush(emptiest, (row.cost, index))
            break
        else:
            return None
    return rows


def _slice(groups: dict[int, PromptGroup], micro: MicroBatches) -> list[_Row]:
    """Padded rows cost their longest: neighbours by length share a row. Among the cuts into so few micro-batches the
    most even one, found by bisection over the size of a row."""
    order = sorted(groups, key=lambda g: (-groups[g].longest, g))

    def cut(max_tokens: int) -> list[_Row]:
        rows: list[_Row] = []
        for g in order:
            too_long = not rows or rows[-1].cost_with(groups[g], "padded") > max_tokens
            if too_long or rows[-1].full_for(groups[g], micro.max_pairs):
                rows.append(_Row())
            rows[-1].add(g, groups[g], "padded")
        return rows

    n_micro = max(1, math.ceil(len(cut(micro.max_tokens)) / micro.world_size))
    n_rows = n_micro * micro.world_size
    even = bisect.bisect_left(range(micro.max_tokens), True, lo=1, key=lambda size: len(cut(size)) <= n_rows)
    rows = cut(even)
    return rows + [_Row() for _ in range(n_rows - len(rows))]
