"""The micro-batches of a step as one, for losses that look at all its pairs."""

from itertools import accumulate

import torch
from torch import Tensor

from dpo.data.batch import PairLogps


def join(parts: list[PairLogps]) -> PairLogps:
    """All of them as one, in their order, without fillers."""
    real = [part for part in parts if part.real]
    starts = [0, *accumulate(len(part.policy) for part in real)]

    def placed(responses: list[Tensor]) -> Tensor:  # or tails, which stand behind them
        return torch.cat([own + start for own, start in zip(responses, starts, strict=False)])

    def whole(values: list[Tensor | None]) -> Tensor | None:
        """None unless every part has them."""
        known = [value for value in values if value is not None]
        return torch.cat(known) if len(known) == len(real) else None

    tails = [part.tails for part in real if part.tails is not None]
    weights = [part.by_kind(part.weights) for part in real if part.weights is not None]
    return PairLogps(
        policy=torch.cat([part.policy for part in real]),
        reference=whole([part.reference for part in real]),
        tokens=torch.cat([part.tokens for part in real]),
        pairs=placed([part.pairs for part in real]),
        tails=placed(tails) if len(tails) == len(real) else None,
        desirable=placed([part.desirable for part in real]),
        undesirable=placed([part.undesirable for part in real]),
        margins=whole([part.margins for part in real]),
        weights=torch.cat([kind for kinds in zip(*weights, strict=True) for kind in kinds])
        if len(weights) == len(real)
        else None,
        alignment=whole([part.alignment for part in real]),
        baseline=real[0].baseline,
    )
