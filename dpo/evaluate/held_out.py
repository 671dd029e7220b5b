"""The loss and its metrics over the whole held-out set, exact over all workers."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dpo.data.batch import Batch
from dpo.data.groups import PromptGroups
from dpo.data.rows import MicroBatches, spread_groups
from dpo.distributed.engine import Engine
from dpo.distributed.world import World
from dpo.losses.loss import Loss
from dpo.metrics import StepStats
from dpo.preempt import StopRequest
from dpo.step import Reference, divergence, look, step_shares

TOGETHER = 8192  # groups in memory at a time, some 100 MB


@dataclass(kw_only=True, slots=True)
class HeldOut:
    """Every held-out pair counts once, however many workers and micro-batches share the work. For losses that rank or
    estimate over a step, the whole set is one."""

    groups: PromptGroups
    datasets: list[str]  # whose metrics are kept apart, too
    mismatched: PromptGroups  # prompts with the answers to other prompts, for losses that ask for them
    micro: MicroBatches
    engine: Engine
    reference: Reference
    loss: Loss
    world: World
    stop: StopRequest

    def measure(self) -> dict[str, Any]:
        """Means over the set; empty when there is none. A collective.

        Raises:
            Stopped: on request, between two rows.
        """
        if not self.groups:
            return {}
        self.engine.scorer.eval()
        baseline: Tensor | float = 0.0
        if self.loss.needs_mismatched:
            baseline = divergence(self.engine, self.reference, self.batches(self.mismatched), self.world)
        counts, seen = [], []
        for batch in self.batches(self.groups):
            counts.append(batch.counts)
            seen.append(look(self.engine, self.reference, batch, baseline))
        self.engine.scorer.train()
        shares = step_shares(seen, self.loss, self.world, learning=False)
        stats = StepStats(self.loss, self.world.device, self.datasets)
        for i, logps in enumerate(seen):
            stats.add(counts[i], logps, self.loss.values(logps, shares[i] if shares else None))
        self.world.data_sum(stats.sums)
        return stats.record()

    def batches(self, groups: PromptGroups) -> Iterator[Batch]:
        """Those of this worker, equally many on each."""
        number = 0
        for begin in range(0, len(groups), TOGETHER):
            some = [groups[i] for i in range(begin, min(begin + TOGETHER, len(groups)))]
            for row in spread_groups(some, self.micro)[self.world.data_rank]:
                number += 1
                self.world.watchdog.moved(f"held-out row {number}", limited=number > 1)
                self.stop.check()
                yield self.micro.collate(row).to(self.world.device)
