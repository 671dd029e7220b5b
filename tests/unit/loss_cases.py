"""Log-probabilities of a few pairs for tests of losses, and a way to set every loss up."""

import torch
from torch import Tensor

from dpo.config.losses import LossConfig
from dpo.data.batch import Counts, PairLogps
from dpo.losses.loss import Loss
from dpo.losses.registry import LOSSES

DOUBLE = torch.float64
CHOSEN, REJECTED = [-12.5, -40.0, -3.25, -60.0], [-14.0, -31.0, -9.5, -58.5]
REF_CHOSEN, REF_REJECTED = [-13.0, -37.5, -5.0, -60.75], [-12.0, -33.0, -8.0, -55.0]
LENGTHS_CHOSEN, LENGTHS_REJECTED = [5.0, 20.0, 2.0, 31.0], [7.0, 11.0, 4.0, 30.0]
MARGINS = [0.5, 2.0, 0.0, 1.25]
COUNTS = Counts(pairs=7, answers=14, response_tokens=30, chosen_tokens=12, tokens=99)
MIX = [{"name": "sigmoid", "weight": 0.8, "beta": 0.3}, {"name": "aot"}, {"name": "sft", "weight": 0.5}]


def knobs_of(name: str, **knobs: object) -> LossConfig:
    return LOSSES[name].knobs(**knobs)


def pair_logps(
    chosen: list[float] = CHOSEN,
    rejected: list[float] = REJECTED,
    reference: tuple[list[float], list[float]] = (REF_CHOSEN, REF_REJECTED),
    dtype: torch.dtype = DOUBLE,
    baseline: float = 0.0,
) -> PairLogps:
    """Pair i: response i against response n + i."""
    n = len(chosen)
    return PairLogps(
        policy=torch.tensor([*chosen, *rejected], dtype=dtype),
        reference=torch.tensor([*reference[0], *reference[1]], dtype=dtype),
        tokens=torch.tensor([*LENGTHS_CHOSEN[:n], *LENGTHS_REJECTED[:n]]),
        pairs=torch.tensor([(i, n + i) for i in range(n)]),
        margins=torch.tensor(MARGINS[:n], dtype=dtype),
        baseline=baseline,
    )


def moved(logps: PairLogps, by: Tensor) -> PairLogps:
    """With another policy."""
    return PairLogps(
        policy=logps.policy + by,
        reference=logps.reference,
        tokens=logps.tokens,
        pairs=logps.pairs,
        margins=logps.margins,
        baseline=logps.baseline,
    )


def parts(*sizes: int) -> list[PairLogps]:
    """The four pairs as micro-batches of these sizes."""
    found, start = [], 0
    for size in sizes:
        end = start + size
        found.append(
            pair_logps(CHOSEN[start:end], REJECTED[start:end], (REF_CHOSEN[start:end], REF_REJECTED[start:end]))
        )
        found[-1].tokens = pair_logps().tokens[[*range(start, end), *range(4 + start, 4 + end)]]
        found[-1].margins = pair_logps().margins[start:end]  # type: ignore[index]
        start = end
    return found


def computed(loss: Loss, logps: PairLogps, units: int = 1) -> tuple[Tensor, Tensor]:
    """Values and slope when these pairs are the whole step."""
    share = loss.shares([logps], learning=True)[0] if loss.scope == "step" else None
    (values,), slope = loss.value_and_slope(logps, [units], share)
    return values, slope
