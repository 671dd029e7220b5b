"""Which pairs stand in which step (a pure function of seed, step and the data, whatever the workers), and how the
pairs of a step spread over workers and micro-batches (of their lengths and the number of workers). Every worker
computes both alone, and resuming needs the step only."""

import hashlib
import heapq
import math
from dataclasses import dataclass, field

import numpy as np

from dpo.data.batch import PromptGroup


@dataclass(kw_only=True, slots=True)
class StepPlan:
    """One optimizer step of the whole job."""

    step: int  # counted from 0
    epoch: float  # epochs completed after this step
    groups: list[int]  # in data order
    n_pairs: int  # over all workers
    n_response_tokens: int  # over all workers
    n_tokens: int  # prompts once, responses each, over all workers
    digest: str  # 8 hexadecimal digits that name the pairs of the step and their order


class DataPlan:
    """The order of the data over all steps."""

    def __init__(self, groups: list[PromptGroup], *, seed: int, global_batch_size: int):
        self.groups, self.seed, self.global_batch_size = groups, seed, global_batch_size
        self._epoch, self._batches = -1, [[0]]
        self._starts = [0]  # first step of every epoch seen so far

    def total_steps(self, epochs: float, max_steps: int | None) -> int:
        """Steps in `epochs` passes over the data (fractions too), at most `max_steps`."""
        whole = math.floor(epochs)
        steps = self._start(whole)
        if epochs > whole:
            steps += math.ceil(round((epochs - whole) * len(self._epoch_batches(whole)), 6))
        return min(steps, max_steps) if max_steps else steps

    def step(self, step: int) -> StepPlan:
        """The plan of `step`, counted from 0."""
        epoch = 0
        while self._start(epoch + 1) <= step:
            epoch += 1
        batches = self._epoch_batches(epoch)
        index = step - self._start(epoch)
        chosen = batches[index]
        ids = "".join(i for g in chosen for i in self.groups[g].pair_ids)
        return StepPlan(
            step=step,
            epoch=epoch + (index + 1) / len(batches),
            groups=chosen,
            n_pairs=sum(self.groups[g].n_pairs for g in chosen),
            n_response_tokens=sum(self.groups[g].response_tokens for g in chosen),
            n_tokens=sum(len(self.groups[g].prompt_ids) + self.groups[g].response_tokens for g in chosen),
            digest=hashlib.sha256(ids.encode()).hexdigest()[:8],
        )

    def _start(self, epoch: int) -> int:
        while len(self._starts) <= epoch:
            self._starts.append(self._starts[-1] + len(self._epoch_batches(len(self._starts) - 1)))
        return self._starts[epoch]

    def _epoch_batches(self, epoch: int) -> list[list[int]]:
        if epoch != self._epoch:
            sizes = [group.n_pairs for group in self.groups]
            self._batches = epoch_batches(sizes, self.seed, epoch, self.global_batch_size)
            self._epoch = epoch
        return self._batches


def epoch_batches(sizes: list[int], seed: int, epoch: int, global_batch_size: int) -> list[list[int]]:
    """Shuffle the groups and cut them into steps of `global_batch_size` pairs; the last step may be smaller.

    A group that the boundary would cut goes whole into the step that it begins in.
    """
    batches: list[list[int]] = []
    room = 0
    for group in np.random.default_rng([seed, epoch]).permutation(len(sizes)).tolist():
        if room <= 0:
            batches.append([])
            room = global_batch_size
        batches[-1].append(group)
        room -= sizes[group]
    return batches


@dataclass(kw_only=True, slots=True)
class MicroBatches:
    """What bounds one forward pass of one worker."""

    layout: str
    max_tokens: int
    max_pairs: int | None
    world_size: int


def fill_rows(all_groups: list[PromptGroup], chosen: list[int], micro: MicroBatches) -> list[list[list[int]]]:
    """Spread the chosen groups over [worker][micro-batch]: as few micro-batches as the limits allow, evenly filled.
    Every worker gets equally many, some of them empty when there are too few groups.

    A group longer than the limit gets a row of its own. Rows of similar size run at the same time on different
    workers, since a step waits for its slowest.
    """
    groups = {g: all_groups[g] for g in chosen}
    order = sorted(groups, key=lambda g: (-groups[g].row_tokens, g))
    n_pairs = sum(group.n_pairs for group in groups.values())
    least = [sum(_Row().cost_with(groups[g], micro.layout) for g in order) / micro.max_tokens]
    least += [n_pairs / micro.max_pairs] if micro.max_pairs else []
    n_micro = max(1, math.ceil(max(least) / micro.world_size))
    while (rows := _spread(order, groups, n_micro * micro.world_size, micro)) is None:
        n_micro += 1
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

    def add(self, index: int, group: PromptGroup, cost: int) -> None:
        self.groups.append(index)
        self.cost, self.longest = cost, max(self.longest, group.longest)
        self.responses += len(group.responses)
        self.pairs += group.n_pairs


def _spread(order: list[int], groups: dict[int, PromptGroup], n_rows: int, micro: MicroBatches) -> list[_Row] | None:
    """Longest first into the emptiest row (LPT, Graham 1969); None when they do not fit into `n_rows` rows."""
    rows = [_Row() for _ in range(n_rows)]
    emptiest = [(0, i) for i in range(n_rows)]
    for g in order:
        while emptiest:
            index = heapq.heappop(emptiest)[1]
            row = rows[index]
            cost = row.cost_with(groups[g], micro.layout)
            if row.groups and micro.max_pairs and row.pairs + groups[g].n_pairs > micro.max_pairs:
                continue  # full by pairs: no later group fits either
            if row.groups and cost > micro.max_tokens:
                return None
            row.add(g, groups[g], cost)
            heapq.heappush(emptiest, (cost, index))
            break
        else:
            return None
    return rows
