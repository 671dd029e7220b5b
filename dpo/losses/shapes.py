"""Losses of the same reward margin as DPO's, with another shape than -log sigmoid."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dpo.config.losses import (
    DiscopopLossConfig,
    ExoPairLossConfig,
    HingeLossConfig,
    IpoLossConfig,
    IpoSumLossConfig,
)
from dpo.data.batch import PairLogps
from dpo.losses.capped import expm1_capped
from dpo.losses.kind import LossKind, implicit_rewards, mean_ratios, mean_rewards, ratios


def one(knobs: Any) -> float:
    return 1.0


def squared_target(knobs: Any) -> float:
    return 1 / (4 * knobs.beta**2)


def margin(logps: PairLogps, knobs: Any) -> Tensor:
    """b d."""
    chosen, rejected = implicit_rewards(logps, knobs)
    return chosen - rejected


def hinge(logps: PairLogps, knobs: HingeLossConfig) -> Tensor:
    """SLiC's calibration loss on the reward margin; zero from a margin of 1 on."""
    return torch.relu(1 - margin(logps, knobs))


def ipo(logps: PairLogps, knobs: IpoLossConfig) -> Tensor:
    """Of ratios per token, as the authors train it (their correction to eq. 17)."""
    x, y = mean_ratios(logps)
    return (x - y - 1 / (2 * knobs.beta)) ** 2


def ipo_sum(logps: PairLogps, knobs: IpoSumLossConfig) -> Tensor:
    """As the paper writes it (eq. 17)."""
    x, y = ratios(logps)
    return (x - y - 1 / (2 * knobs.beta)) ** 2


def exo_pair(logps: PairLogps, knobs: ExoPairLossConfig) -> Tensor:
    """Reverse KL from the policy's preference to the smoothed label, where DPO has forward KL."""
    m, e = margin(logps, knobs), knobs.label_smoothing
    chosen = torch.sigmoid(m) * (F.logsigmoid(m) - math.log1p(-e))
    return chosen + torch.sigmoid(-m) * (F.logsigmoid(-m) - math.log(e))


def discopop(logps: PairLogps, knobs: DiscopopLossConfig) -> Tensor:
    """Logistic where the margin is low, exponential where it is high: a loss that a language model discovered.

    exp(-m) s(m / tau) is computed as one exponential: for tau < 1 it cannot overflow, and for others it ends at e^40.
    """
    m = margin(logps, knobs)
    exponential = expm1_capped(-m + F.logsigmoid(m / knobs.discopop_tau)) + 1
    return -F.logsigmoid(m) * torch.sigmoid(-m / knobs.discopop_tau) + exponential


def exo_first(knobs: ExoPairLossConfig) -> float:
    e = knobs.label_smoothing
    return -math.log(2) - (math.log1p(-e) + math.log(e)) / 2


KINDS = (
    LossKind(
        function=hinge,
        knobs=HingeLossConfig,
        equation="max(0, 1 - b d)",
        paper="Zhao et al. 2023 (SLiC-HF), arXiv:2305.10425; Liu et al. 2023 (RSO), arXiv:2309.06657",
        first=one,
    ),
    LossKind(
        function=ipo,
        knobs=IpoLossConfig,
        equation="(x / Lc - y / Lr - 1 / (2 b))^2",
        paper="Azar et al. 2023, arXiv:2310.12036",
        first=squared_target,
        rewards=mean_rewards,
    ),
    LossKind(
        function=ipo_sum,
        knobs=IpoSumLossConfig,
        equation="(d - 1 / (2 b))^2",
        paper="Azar et al. 2023, arXiv:2310.12036, eq. 17",
        first=squared_target,
    ),
    LossKind(
        function=exo_pair,
        knobs=ExoPairLossConfig,
        equation="s(b d) (ls(b d) - ln(1-e)) + s(-b d) (ls(-b d) - ln e)",
        paper="Ji et al. 2024, arXiv:2402.00856",
        first=exo_first,
    ),
    LossKind(
        function=discopop,
        knobs=DiscopopLossConfig,
        equation="-ls(b d) (1-m) + exp(-b d) m, m = s(b d / discopop_tau)",
        paper="Lu et al. 2024, arXiv:2406.08414",
        first=lambda knobs: (1 + math.log(2)) / 2,
    ),
)
