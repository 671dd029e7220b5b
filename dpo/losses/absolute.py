"""Losses that judge each answer by itself: whether its own reward is high or low enough, not how two compare."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dpo.config.losses import (
    ApoDownLossConfig,
    ApoZeroLossConfig,
    BcoLossConfig,
    BcoPairLossConfig,
    KtoLossConfig,
    NcaPairLossConfig,
    SppoHardLossConfig,
)
from dpo.data.batch import PairLogps
from dpo.losses.kind import LossKind, implicit_rewards, ratios


def one(knobs: Any) -> float:
    return 1.0


def two_ln_2(knobs: Any) -> float:
    return 2 * math.log(2)


def nca_pair(logps: PairLogps, knobs: NcaPairLossConfig) -> Tensor:
    """Noise contrast: raises the chosen answer's reward and holds both near zero."""
    chosen, rejected = implicit_rewards(logps, knobs)
    return -F.logsigmoid(chosen) - F.logsigmoid(-chosen) / 2 - F.logsigmoid(-rejected) / 2


def bco_pair(logps: PairLogps, knobs: BcoPairLossConfig) -> Tensor:
    """A classifier of good and bad answers whose logit is the reward, without a shift."""
    chosen, rejected = implicit_rewards(logps, knobs)
    return -F.logsigmoid(chosen) - F.logsigmoid(-rejected)


def all_rewards(logps: PairLogps, knobs: BcoLossConfig) -> Tensor:
    return torch.cat(implicit_rewards(logps, knobs))


def bco(logps: PairLogps, knobs: BcoLossConfig) -> Tensor:
    """The same with the shift: the mean of all rewards of both sides that training has seen, this step's included. Of
    an unpaired row the one of the two terms that it has."""
    chosen, rejected = implicit_rewards(logps, knobs)
    good, bad = -F.logsigmoid(chosen - logps.baseline), -F.logsigmoid(logps.baseline - rejected)
    n_pairs = len(logps.pairs)
    return torch.cat([good[:n_pairs] + bad[:n_pairs], good[n_pairs:], bad[n_pairs:]])


def kto(logps: PairLogps, knobs: KtoLossConfig) -> Tensor:
    """Prospect theory's value of every answer by itself: the chosen ones are desirable, the rejected undesirable. z0:
    mean log-ratio of answers to other prompts over the step, at least zero, without gradient."""
    x, y = ratios(logps)
    desirable = knobs.desirable_weight * torch.sigmoid(-knobs.beta * (x - logps.baseline))
    undesirable = knobs.undesirable_weight * torch.sigmoid(-knobs.beta * (logps.baseline - y))
    return torch.cat([desirable, undesirable])


def sppo_hard(logps: PairLogps, knobs: SppoHardLossConfig) -> Tensor:
    """Self-play preference optimization with judgements of certain win and certain loss."""
    x, y = ratios(logps)
    target = 1 / (2 * knobs.beta)
    return (x - target) ** 2 + (y + target) ** 2


def apo_zero(logps: PairLogps, knobs: ApoZeroLossConfig) -> Tensor:
    """Chosen answers up, rejected ones down: for data better than the policy."""
    chosen, rejected = implicit_rewards(logps, knobs)
    return torch.sigmoid(-chosen) + torch.sigmoid(rejected)


def apo_down(logps: PairLogps, knobs: ApoDownLossConfig) -> Tensor:
    """Both down, the rejected further: for data worse than the policy."""
    chosen, rejected = implicit_rewards(logps, knobs)
    return torch.sigmoid(chosen) + torch.sigmoid(rejected - chosen)


KINDS = (
    LossKind(
        function=nca_pair,
        knobs=NcaPairLossConfig,
        equation="-ls(b x) - ls(-b x) / 2 - ls(-b y) / 2",
        paper="Chen et al. 2024, arXiv:2402.05369",
        first=two_ln_2,
    ),
    LossKind(
        function=bco_pair,
        knobs=BcoPairLossConfig,
        equation="-ls(b x) - ls(-b y)",
        paper="Jung et al. 2024, arXiv:2404.04656",
        first=two_ln_2,
    ),
    LossKind(
        function=bco,
        knobs=BcoLossConfig,
        equation="-ls(b x - delta) - ls(delta - b y), delta: mean of all rewards so far",
        paper="Jung et al. 2024, arXiv:2404.04656",
        scope="step",
        baseline="running",
        seen=all_rewards,
        unpaired=True,
        first=two_ln_2,
    ),
    LossKind(
        function=kto,
        knobs=KtoLossConfig,
        equation="desirable_weight s(b (z0 - x)) of a chosen, undesirable_weight s(b (y - z0)) of a rejected answer, "
        "z0: mean log-ratio of the step's prompts with the answers to other prompts, at least 0",
        paper="Ethayarajh et al. 2024, arXiv:2402.01306",
        per="answer",
        baseline="mismatched",
        unpaired=True,
        first=lambda knobs: (knobs.desirable_weight + knobs.undesirable_weight) / 4,
    ),
    LossKind(
        function=sppo_hard,
        knobs=SppoHardLossConfig,
        equation="(x - 1 / (2 b))^2 + (y + 1 / (2 b))^2",
        paper="Wu et al. 2024, arXiv:2405.00675",
        first=lambda knobs: 1 / (2 * knobs.beta**2),
    ),
    LossKind(
        function=apo_zero,
        knobs=ApoZeroLossConfig,
        equation="1 - s(b x) + s(b y)",
        paper="D'Oosterlinck et al. 2024, arXiv:2408.06266",
        first=one,
    ),
    LossKind(
        function=apo_down,
        knobs=ApoDownLossConfig,
        equation="s(b x) + 1 - s(b d)",
        paper="D'Oosterlinck et al. 2024, arXiv:2408.06266",
        first=one,
    ),
)
