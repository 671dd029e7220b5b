"""One optimizer step: forward -> PairLogps -> loss and its derivative per log-probability -> backward -> apply."""

from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor

from dpo.data.batch import Batch, PairLogps
from dpo.distributed.engine import Engine
from dpo.loss import Loss
from dpo.metrics import StepStats


class Reference(Protocol):
    """Where the reference log-probabilities come from."""

    def logps(self, batch: Batch) -> Tensor | None:
        """[R] float32, without gradient; None for losses without a reference."""


def train_step(
    engine: Engine, reference: Reference, batches: Iterable[tuple[Batch, bool]], loss: Loss, denominator: int
) -> StepStats:
    """Accumulate the gradient of `sum over the global batch / denominator`; the caller applies it.

    `batches` are this worker's micro-batches, each with whether it is the last; all workers have equally many.
    """
    stats: StepStats | None = None
    for batch, last in batches:
        expected = reference.logps(batch)
        policy = engine.forward(batch)
        logps = pair_logps(batch, policy.detach(), expected)
        values, slope = loss.value_and_slope(logps)
        # A loss can be infinite where its slope is finite (log 0): this carries it into the gradient, and with the
        # gradient it reaches every worker. Adds zero otherwise.
        poison = 0 * values.sum()
        engine.backward((policy * (slope / denominator + poison)).sum(), last)
        stats = stats or StepStats(policy.device)
        stats.add(batch, logps, values, loss)
    assert stats is not None
    return stats


@torch.no_grad()
def measure(engine: Engine, reference: Reference, batch: Batch, loss: Loss, stats: StepStats) -> Tensor:
    """The same numbers without a gradient, added to `stats`. Returns the losses of the batch's units."""
    policy = engine.forward(batch)
    logps = pair_logps(batch, policy, reference.logps(batch))
    values, _ = loss.value_and_slope(logps)
    stats.add(batch, logps, values, loss)
    return values


def pair_logps(batch: Batch, policy: Tensor, reference: Tensor | None) -> PairLogps:
    return PairLogps(policy=policy, reference=reference, tokens=batch.tokens, pairs=batch.pairs, real=batch.n_pairs > 0)
