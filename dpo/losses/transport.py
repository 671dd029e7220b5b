"""Losses of two distributions over the step: the rewards of chosen answers are to dominate those of rejected ones, rank
by rank. Over the whole step, since a rank within one worker's pairs would depend on how many workers there are."""

from torch import Tensor

from dpo.config.losses import AotLossConfig, AotUnpairedLossConfig
from dpo.data.batch import PairLogps
from dpo.losses.kind import LossKind, ratios
from dpo.losses.logistic import ln_2, smoothed


def aot(logps: PairLogps, knobs: AotLossConfig) -> Tensor:
    """The policy's margins against the reference's, rank by rank. Values in the order of ranks, not of pairs."""
    assert logps.reference is not None
    chosen, rejected = logps.sides(logps.policy)
    own_chosen, own_rejected = logps.sides(logps.reference)
    margins = _sorted(chosen - rejected) - _sorted(own_chosen - own_rejected)
    return smoothed(knobs.beta * margins, knobs.label_smoothing)


def aot_unpaired(logps: PairLogps, knobs: AotUnpairedLossConfig) -> Tensor:
    """Chosen answers' ratios against the rejected ones', rank by rank, whatever the prompts. In the order of ranks."""
    x, y = ratios(logps)
    return smoothed(knobs.beta * (_sorted(x) - _sorted(y)), knobs.label_smoothing)


def _sorted(values: Tensor) -> Tensor:
    return values.sort(stable=True).values


KINDS = (
    LossKind(
        function=aot,
        knobs=AotLossConfig,
        equation="-(1-e) ls(b D) - e ls(-b D), D = sort(c - r) - sort(the reference's c - r) over the step",
        paper="Melnyk et al. 2024, arXiv:2406.05882",
        scope="step",
        first=ln_2,
    ),
    LossKind(
        function=aot_unpaired,
        knobs=AotUnpairedLossConfig,
        equation="-(1-e) ls(b D) - e ls(-b D), D = sort(x) - sort(y) over the step",
        paper="Melnyk et al. 2024, arXiv:2406.05882",
        scope="step",
        first=ln_2,
    ),
)
