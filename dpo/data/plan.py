"""Which pairs stand in which step: a pure function of seed, step and the data, whatever the workers. Every worker
computes it alone, and resuming needs the step only."""

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpo.data.batch import Counts, PromptGroup, total
from dpo.data.groups import PromptGroups, sizes_of


@dataclass(kw_only=True, slots=True)
class StepPlan:
    """One optimizer step of the whole job."""

    step: int  # counted from 0
    epoch: float  # epochs completed after this step
    groups: list[int]  # their numbers in the data
    members: list[PromptGroup]  # the same groups
    counts: Counts  # over all workers
    digest: str  # 8 hexadecimal digits that name the pairs of the step and their order


class DataPlan:
    """The order of the data over all steps. In memory: 16 bytes per group."""

    def __init__(self, groups: PromptGroups, *, seed: int, global_batch_size: int):
        self.groups, self.seed, self.global_batch_size = groups, seed, global_batch_size
        self._sizes = sizes_of(groups)
        self._epoch, self._batches = -1, Batches(order=np.empty(0, np.int64), begins=np.zeros(1, np.int64))
        self._starts = [0]  # first step of every epoch seen so far

    @property
    def n_pairs(self) -> int:
        """In an epoch."""
        return int(self._sizes.sum())

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
        members = [self.groups[g] for g in chosen]
        ids = "".join(i for group in members for i in group.pair_ids)
        return StepPlan(
            step=step,
            epoch=epoch + (index + 1) / len(batches),
            groups=chosen,
            members=members,
            counts=total(group.counts for group in members),
            digest=hashlib.sha256(ids.encode()).hexdigest()[:8],
        )

    def _start(self, epoch: int) -> int:
        while len(self._starts) <= epoch:
            self._starts.append(self._starts[-1] + len(self._epoch_batches(len(self._starts) - 1)))
        return self._starts[epoch]

    def _epoch_batches(self, epoch: int) -> "Batches":
        if epoch != self._epoch:
            self._batches = epoch_batches(self._sizes, self.seed, epoch, self.global_batch_size)
            self._epoch = epoch
        return self._batches


@dataclass(kw_only=True, slots=True)
class Batches:
    """The steps of one epoch."""

    order: NDArray[np.int64]  # [G] numbers of groups
    begins: NDArray[np.int64]  # [steps + 1] where in `order` each step begins

    def __len__(self) -> int:
        return len(self.begins) - 1

    def __getitem__(self, index: int) -> list[int]:
        """The groups of one step."""
        index = range(len(self))[index]
        return self.order[self.begins[index] : self.begins[index + 1]].tolist()


def epoch_batches(sizes: NDArray[np.int64], seed: int, epoch: int, global_batch_size: int) -> Batches:
    """Shuffle the groups and cut them into steps of `global_batch_size` pairs; the last step may be smaller.

    A group that the boundary would cut goes whole into the step that it begins in.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(sizes))
    if (sizes == 1).all():
        return Batches(order=order, begins=np.append(np.arange(0, len(sizes), global_batch_size), len(sizes)))
    ends = np.cumsum(sizes[order])  # pairs up to and with a group
    begins = [0]
    while begins[-1] < len(sizes):
        before = int(ends[begins[-1] - 1]) if begins[-1] else 0
        full = int(np.searchsorted(ends, before + global_batch_size))  # the group that fills the step
        begins.append(min(full + 1, len(sizes)))
    return Batches(order=order, begins=np.array(begins, np.int64))
