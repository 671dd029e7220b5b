"""Which pairs stand in which step: a pure function of seed, step and the data, whatever the workers. Every worker
computes it alone, and resuming needs the step only."""

import hashlib
import math
from dataclasses import dataclass

import numpy as np

from dpo.data.batch import PromptGroup


@dataclass(kw_only=True, slots=True)
class StepPlan:
    """One optimizer step of the whole job."""

    step: int  # counted from 0
    epoch: float  # epochs completed after this step
    groups: list[int]  # in data order
    n_pairs: int  # over all workers
    n_response_tokens: int  # scored, over all workers
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
            n_response_tokens=sum(self.groups[g].scored_tokens for g in chosen),
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
