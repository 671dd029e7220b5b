"""Functions that overflow, continued past a cap: losses and gradients stay finite whatever the log-ratios.

Below its cap each is exact. Where e^u or 1 / (1 - e^u) would leave float32, the value teaches nothing any more, but one
infinite pair would take the whole step with it.
"""

import math

import torch
from torch import Tensor

# e^40 = 2.4e17: a gradient norm, which sums squares, still fits into float32 (3.4e38).
LARGEST_EXPONENT = 40.0
# The mean log-probability per token that counts as certainty: the odds end at a million to one.
CERTAIN = -1e-6


def expm1_capped(u: Tensor) -> Tensor:
    """e^u - 1, from u = 40 on along its tangent."""
    over = (u - LARGEST_EXPONENT).clamp(min=0)
    return torch.expm1(u.clamp(max=LARGEST_EXPONENT)) + math.exp(LARGEST_EXPONENT) * over


def log_odds(logp: Tensor) -> Tensor:
    """log(p / (1 - p)) of p = e^logp; p at most e^-1e-6."""
    logp = logp.clamp(max=CERTAIN)
    return logp - torch.log(-torch.expm1(logp))
