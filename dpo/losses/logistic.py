"""Losses -log sigmoid of a reward margin: DPO and what was changed inside its sigmoid."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dpo.config.losses import (
    BetaDpoLossConfig,
    DpopLossConfig,
    OdpoLossConfig,
    RdpoLossConfig,
    RobustLossConfig,
    SigmoidLossConfig,
    SigmoidNormLossConfig,
)
from dpo.data.batch import PairLogps
from dpo.losses.capped import expm1_capped
from dpo.losses.kind import LossKind, Sides, implicit_rewards, mean_rewards, ratios

ALPHA = 0.5  # of alpha_divergence, where the knob is null
# The least beta of a step under beta_dpo, over `beta`: with the usual 0.1 it is 0.001, where the authors' code ends.
LEAST_BETA = 0.01


def ln_2(knobs: Any) -> float:
    return math.log(2)


def smoothed(margin: Tensor, e: float) -> Tensor:
    """-(1 - e) ls(margin) - e ls(-margin)."""
    return -(1 - e) * F.logsigmoid(margin) - e * F.logsigmoid(-margin)


def divergence_rewards(logps: PairLogps, knobs: SigmoidLossConfig) -> Sides:
    """b f(x) and b f(y), f: the derivative of the f-divergence at the ratio, up to a constant (Wang et al. 2023,
    arXiv:2309.16240). Exponents end at 40, see `expm1_capped`."""
    x, y = (_divergence(ratio, knobs) for ratio in ratios(logps))
    return knobs.beta * x, knobs.beta * y


def _divergence(u: Tensor, knobs: SigmoidLossConfig) -> Tensor:
    alpha = ALPHA if knobs.alpha is None else knobs.alpha
    if knobs.f_divergence == "reverse_kl" or (knobs.f_divergence == "alpha_divergence" and alpha == 1):
        return u
    if knobs.f_divergence == "forward_kl":
        return -expm1_capped(-u)
    if knobs.f_divergence == "js_divergence":
        return math.log(2) + F.logsigmoid(u)
    return expm1_capped((alpha - 1) * u) / (alpha - 1)


def sigmoid(logps: PairLogps, knobs: SigmoidLossConfig) -> Tensor:
    """DPO; label smoothing: conservative DPO (Mitchell 2023, eq. 3); f_divergence: f-DPO."""
    chosen, rejected = divergence_rewards(logps, knobs)
    return smoothed(chosen - rejected, knobs.label_smoothing)


def margins(logps: PairLogps, knobs: Any) -> Tensor:
    """d, in nats."""
    x, y = ratios(logps)
    return x - y


def step_beta(logps: PairLogps, knobs: BetaDpoLossConfig) -> Tensor:
    """[] b (1 + alpha (mean d - M0)), without a gradient. d in nats, as in the authors' code, whose alpha is 0.6; M0
    includes the step, too. Never below 1 % of b: a negative one would prefer the rejected answers."""
    excess = margins(logps, knobs).detach().mean() - logps.baseline
    return knobs.beta * (1 + knobs.margin_weight * excess).clamp(min=LEAST_BETA)


def beta_dpo(logps: PairLogps, knobs: BetaDpoLossConfig) -> Tensor:
    """DPO that holds the policy nearer to the reference in a step whose pairs are easy. Of the paper without its
    beta-guided sampling, which trains on a random part of every batch."""
    return -F.logsigmoid(step_beta(logps, knobs) * margins(logps, knobs))


def robust(logps: PairLogps, knobs: RobustLossConfig) -> Tensor:
    """An unbiased estimate of DPO's loss on the true labels when a share e of them is flipped."""
    chosen, rejected = implicit_rewards(logps, knobs)
    margin, e = chosen - rejected, knobs.label_smoothing
    return (-(1 - e) * F.logsigmoid(margin) + e * F.logsigmoid(-margin)) / (1 - 2 * e)


def sigmoid_norm(logps: PairLogps, knobs: SigmoidNormLossConfig) -> Tensor:
    """DPO of ratios per token."""
    chosen, rejected = mean_rewards(logps, knobs)
    return -F.logsigmoid(chosen - rejected)


def odpo(logps: PairLogps, knobs: OdpoLossConfig) -> Tensor:
    """DPO that asks for a larger reward margin where the data's own margin is larger."""
    assert logps.margins is not None
    chosen, rejected = implicit_rewards(logps, knobs)
    return -F.logsigmoid(chosen - rejected - knobs.margin_scale * logps.margins)


def length_rewards(logps: PairLogps, knobs: RdpoLossConfig) -> Sides:
    x, y = implicit_rewards(logps, knobs)
    chosen, rejected = logps.sides(knobs.length_weight * logps.tokens)
    return x + chosen, y + rejected


def rdpo(logps: PairLogps, knobs: RdpoLossConfig) -> Tensor:
    """DPO that has reached the same margin sooner where the chosen answer is longer."""
    chosen, rejected = length_rewards(logps, knobs)
    return -F.logsigmoid(chosen - rejected)


def positive_rewards(logps: PairLogps, knobs: DpopLossConfig) -> Sides:
    x, y = ratios(logps)
    return knobs.beta * (x - knobs.dpop_lambda * torch.relu(-x)), knobs.beta * y


def dpop(logps: PairLogps, knobs: DpopLossConfig) -> Tensor:
    """DPO that charges for a chosen answer less likely than under the reference."""
    chosen, rejected = positive_rewards(logps, knobs)
    return -F.logsigmoid(chosen - rejected)


KINDS = (
    LossKind(
        function=sigmoid,
        knobs=SigmoidLossConfig,
        equation="-(1-e) ls(b d) - e ls(-b d); with f_divergence d = f(x) - f(y): f(u) = 1 - exp(-u) (forward_kl), "
        "ln 2 + ls(u) (js_divergence), (exp((alpha-1) u) - 1) / (alpha-1) (alpha_divergence)",
        paper="Rafailov et al. 2023, arXiv:2305.18290; f-divergences: Wang et al. 2023, arXiv:2309.16240",
        first=ln_2,
        rewards=divergence_rewards,
    ),
    LossKind(
        function=beta_dpo,
        knobs=BetaDpoLossConfig,
        equation="-ls(B d), B = b max(0.01, 1 + margin_weight (mean d - M0)), M0: moving average of the steps' mean d",
        paper="Wu et al. 2024, arXiv:2407.08639",
        scope="step",
        baseline="moving",
        seen=margins,
        step_beta=step_beta,
        first=ln_2,
    ),
    LossKind(
        function=robust,
        knobs=RobustLossConfig,
        equation="(-(1-e) ls(b d) + e ls(-b d)) / (1 - 2 e)",
        paper="Chowdhury et al. 2024, arXiv:2403.00409",
        first=ln_2,
    ),
    LossKind(
        function=sigmoid_norm,
        knobs=SigmoidNormLossConfig,
        equation="-ls(b (x / Lc - y / Lr))",
        paper="Lambert et al. 2024 (Tulu 3), arXiv:2411.15124",
        first=ln_2,
        rewards=mean_rewards,
    ),
    LossKind(
        function=odpo,
        knobs=OdpoLossConfig,
        equation="-ls(b d - margin_scale * margin), margin: of the row",
        paper="Amini et al. 2024, arXiv:2402.10571",
        needs_margin=True,
    ),
    LossKind(
        function=rdpo,
        knobs=RdpoLossConfig,
        equation="-ls(b d + length_weight (Lc - Lr))",
        paper="Park et al. 2024, arXiv:2403.19159",
        rewards=length_rewards,
    ),
    LossKind(
        function=dpop,
        knobs=DpopLossConfig,
        equation="-ls(b (d - dpop_lambda max(0, -x)))",
        paper="Pal et al. 2024 (Smaug), arXiv:2402.13228",
        first=ln_2,
        rewards=positive_rewards,
    ),
)
