"""The loss and its metrics over the whole held-out set, exact over all workers."""

from collections.abc import Iterator
from dataclasses import dataclass

from dpo.data.batch import PromptGroup
from dpo.data.groups import PromptGroups
from dpo.data.rows import MicroBatches, spread_groups
from dpo.distributed.engine import Engine
from dpo.distributed.world import World
from dpo.loss import Loss
from dpo.metrics import StepStats
from dpo.preempt import StopRequest
from dpo.step import Reference, measure

TOGETHER = 8192  # groups in memory at a time, some 100 MB


@dataclass(kw_only=True, slots=True)
class HeldOut:
    """Every held-out pair counts once, however many workers and micro-batches share the work."""

    groups: PromptGroups
    micro: MicroBatches
    engine: Engine
    reference: Reference
    loss: Loss
    world: World
    stop: StopRequest

    def measure(self) -> dict[str, float]:
        """Means over the set; empty when there is none. A collective.

        Raises:
            Stopped: on request, between two rows.
        """
        if not self.groups:
            return {}
        stats = StepStats(self.world.device)
        self.engine.scorer.eval()
        for i, row in enumerate(self._rows()):
            self.world.watchdog.moved(f"held-out row {i + 1}", limited=i > 0)
            self.stop.check()
            batch = self.micro.collate(row).to(self.world.device)
            measure(self.engine, self.reference, batch, self.loss, stats)
        self.engine.scorer.train()
        self.world.data_sum(stats.sums)
        return stats.record(self.loss)

    def _rows(self) -> Iterator[list[PromptGroup]]:
        """The rows of this worker, equally many on each."""
        for begin in range(0, len(self.groups), TOGETHER):
            some = [self.groups[i] for i in range(begin, min(begin + TOGETHER, len(self.groups)))]
            yield from spread_groups(some, self.micro)[self.world.data_rank]
