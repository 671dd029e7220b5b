"""One optimizer step: forward -> PairLogps -> loss and its derivative per log-probability -> backward -> apply.

A loss whose scope is the step needs the log-probabilities of all workers before its first backward. With several
micro-batches that takes a pass over them without a gradient before the other.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from dpo.data.batch import Batch, Counts, PairLogps
from dpo.distributed.engine import Engine
from dpo.distributed.world import World
from dpo.losses.loss import Loss, Share
from dpo.metrics import StepStats


class Reference(Protocol):
    """Where the reference log-probabilities come from."""

    def logps(self, batch: Batch) -> Tensor | None:
        """[R] float32, without gradient; None for losses without a reference."""


@dataclass(kw_only=True, slots=True)
class Work:
    """What this worker computes in a step; all workers have equally many micro-batches.

    Every call of `batches` walks through them from the first, each with whether it is the last, and with the dropout
    that the first call had.
    """

    batches: Callable[[], Iterable[tuple[Batch, bool]]]
    n_batches: int
    mismatched: Callable[[], Iterable[Batch]]  # prompts with answers to other prompts, for losses that ask for them
    counts: Counts  # over all workers
    datasets: Sequence[str] = ()  # whose metrics are kept apart, too


def train_step(engine: Engine, reference: Reference, work: Work, loss: Loss, world: World) -> StepStats:
    """Accumulate the gradient of `sum over the global batch / units`; the caller applies it."""
    baseline = divergence(engine, reference, work.mismatched(), world) if loss.needs_mismatched else 0.0
    seen: list[PairLogps] = []
    if loss.scope == "step" and work.n_batches > 1:
        seen = [look(engine, reference, batch, baseline) for batch, _ in work.batches()]
    shares = step_shares(seen, loss, world, learning=True) if seen else None
    stats = StepStats(loss, world.device, work.datasets)
    units = loss.units(work.counts)
    for i, (batch, last) in enumerate(work.batches()):
        expected = seen[i].reference if seen else reference.logps(batch)
        policy = engine.forward(batch)
        logps = pair_logps(batch, policy.detach(), expected, baseline)
        shares = shares or step_shares([logps], loss, world, learning=True)
        values, slope = loss.value_and_slope(logps, units, shares[i] if shares else None)
        # A loss can be infinite where its slope is finite (log 0): this carries it into the gradient, and with the
        # gradient it reaches every worker. Adds zero otherwise.
        poison = 0 * torch.stack([value.sum() for value in values]).sum()
        engine.backward((policy * (slope + poison)).sum(), last)
        stats.add(batch.counts, logps, values)
    return stats


@torch.no_grad()
def look(engine: Engine, reference: Reference, batch: Batch, baseline: Tensor | float = 0.0) -> PairLogps:
    """The log-probabilities of a micro-batch, without a gradient."""
    expected = reference.logps(batch)
    return pair_logps(batch, engine.forward(batch), expected, baseline)


def step_shares(parts: list[PairLogps], loss: Loss, world: World, *, learning: bool) -> list[Share] | None:
    """What each of this worker's `parts` has in the step that all workers' parts make up; None for a loss that needs
    to know nothing of other pairs. A collective: with a loss of the other kind the hosts wait for the devices here."""
    if loss.scope == "pair":
        return None
    # Workers that share rows have computed the same: the first of each group speaks.
    everyone = world.collect([part.to("cpu") for part in parts])[:: world.sequence_size]
    first = sum(len(theirs) for theirs in everyone[: world.data_rank])
    shares = loss.shares([part for theirs in everyone for part in theirs], learning=learning)
    return shares[first : first + len(parts)]


@torch.no_grad()
def divergence(engine: Engine, reference: Reference, batches: Iterable[Batch], world: World) -> Tensor:
    """kto's z0 [], nats: `mean_log_ratio`, at least zero. An estimate of KL(pi || ref), as long as the answers say
    nothing of their prompts. A collective."""
    return mean_log_ratio(engine, reference, batches, world).clamp(min=0)


@torch.no_grad()
def mean_log_ratio(engine: Engine, reference: Reference, batches: Iterable[Batch], world: World) -> Tensor:
    """The mean of log pi - log ref over the answers of all workers' `batches`, nats: [] float32. A collective."""
    sums = torch.zeros(2, dtype=torch.float64, device=world.device)  # log-ratios, answers
    for batch in batches:
        expected = reference.logps(batch)
        assert expected is not None
        log_ratios = engine.forward(batch) - expected
        if batch.n_pairs:
            sums[0] += log_ratios.sum(dtype=torch.float64)
            sums[1] += len(log_ratios)
    world.data_sum(sums)
    return (sums[0] / sums[1]).float()


def pair_logps(batch: Batch, policy: Tensor, reference: Tensor | None, baseline: Tensor | float = 0.0) -> PairLogps:
    return PairLogps(
        policy=policy,
        reference=reference,
        tokens=batch.tokens,
        pairs=batch.pairs,
        desirable=batch.desirable,
        undesirable=batch.undesirable,
        datasets=batch.datasets,
        margins=batch.margins,
        baseline=baseline,
        real=batch.n_pairs > 0,
    )
