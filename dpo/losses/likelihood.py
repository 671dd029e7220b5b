"""Losses with the likelihood of the chosen answer in them, and those that know no reference."""

import torch.nn.functional as F
from torch import Tensor

from dpo.config.losses import CpoLossConfig, OrpoLossConfig, RpoLossConfig, SftLossConfig, SimpoLossConfig
from dpo.data.batch import PairLogps
from dpo.losses.capped import log_odds
from dpo.losses.kind import LossKind, Sides, implicit_rewards


def means(logps: PairLogps) -> Sides:
    """c / Lc and r / Lr: mean log-probability per token."""
    return logps.sides(logps.policy / logps.tokens)


def rpo(logps: PairLogps, knobs: RpoLossConfig) -> Tensor:
    """DPO plus the negative log-likelihood per token of the chosen answer."""
    chosen, rejected = implicit_rewards(logps, knobs)
    return -F.logsigmoid(chosen - rejected) - knobs.nll_weight * means(logps)[0]


def simpo_rewards(logps: PairLogps, knobs: SimpoLossConfig) -> Sides:
    chosen, rejected = means(logps)
    return knobs.beta * chosen, knobs.beta * rejected


def simpo(logps: PairLogps, knobs: SimpoLossConfig) -> Tensor:
    """The mean log-probability as reward, with a margin to reach."""
    chosen, rejected = simpo_rewards(logps, knobs)
    return -F.logsigmoid(chosen - rejected - knobs.gamma)


def cpo_rewards(logps: PairLogps, knobs: CpoLossConfig) -> Sides:
    chosen, rejected = logps.sides(logps.policy)
    return knobs.beta * chosen, knobs.beta * rejected


def cpo(logps: PairLogps, knobs: CpoLossConfig) -> Tensor:
    """DPO against a reference that finds all answers equally likely, plus the chosen answer's likelihood."""
    chosen, rejected = cpo_rewards(logps, knobs)
    return -F.logsigmoid(chosen - rejected) - knobs.nll_weight * means(logps)[0]


def odds_rewards(logps: PairLogps, knobs: OrpoLossConfig) -> Sides:
    """Log odds of the mean probability per token; see `log_odds` for its cap."""
    chosen, rejected = means(logps)
    return log_odds(chosen), log_odds(rejected)


def orpo(logps: PairLogps, knobs: OrpoLossConfig) -> Tensor:
    """Supervised fine-tuning with the odds ratio of the answers beside it."""
    chosen, rejected = odds_rewards(logps, knobs)
    return -means(logps)[0] - knobs.beta * F.logsigmoid(chosen - rejected)


def sft(logps: PairLogps, knobs: SftLossConfig) -> Tensor:
    """Supervised fine-tuning, per answer: the negative log-probability summed over its tokens. The step divides by the
    answer tokens of the global batch, which makes it the mean per token. Chosen answers count once per pair."""
    return -logps.policy if knobs.answers == "both" else -logps.sides(logps.policy)[0]


KINDS = (
    LossKind(
        function=rpo,
        knobs=RpoLossConfig,
        equation="-ls(b d) - nll_weight c / Lc",
        paper="Pang et al. 2024, arXiv:2404.19733; Liu et al. 2024, arXiv:2405.16436",
    ),
    LossKind(
        function=simpo,
        knobs=SimpoLossConfig,
        equation="-ls(b (c / Lc - r / Lr) - gamma)",
        paper="Meng et al. 2024, arXiv:2405.14734",
        needs_reference=False,
        rewards=simpo_rewards,
    ),
    LossKind(
        function=orpo,
        knobs=OrpoLossConfig,
        equation="-c / Lc - b ls(odds(c / Lc) - odds(r / Lr)), odds(u) = u - ln(1 - exp(u))",
        paper="Hong et al. 2024, arXiv:2403.07691",
        needs_reference=False,
        rewards=odds_rewards,
    ),
    LossKind(
        function=cpo,
        knobs=CpoLossConfig,
        equation="-ls(b (c - r)) - nll_weight c / Lc",
        paper="Xu et al. 2024, arXiv:2401.08417",
        needs_reference=False,
        rewards=cpo_rewards,
    ),
    LossKind(
        function=sft,
        knobs=SftLossConfig,
        equation="-c per token; with answers=both -c and -r",
        paper="Supervised fine-tuning by maximum likelihood",
        per="token",
        unpaired=True,
        needs_reference=False,
        rewards=None,
    ),
)
