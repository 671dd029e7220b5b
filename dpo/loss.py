"""Preference losses: pure functions of `PairLogps`, and their table.

Each returns the losses of its units, not a mean: the step divides by the number of units in the whole global batch,
so that neither workers nor micro-batches change the result.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dpo.config.schema import LossConfig, SftLossConfig, SigmoidLossConfig
from dpo.data.batch import PairLogps


def sigmoid(logps: PairLogps, knobs: SigmoidLossConfig) -> Tensor:
    """DPO, per pair [P] (Rafailov et al. 2023, arXiv:2305.18290, eq. 7), with label smoothing e (conservative DPO,
    Mitchell 2023, eq. 3):

        -(1 - e) log sigmoid(d) - e log sigmoid(-d),   d = chosen reward - rejected reward
    """
    chosen, rejected = rewards(logps, knobs.beta)
    margin = chosen - rejected
    return -(1 - knobs.label_smoothing) * F.logsigmoid(margin) - knobs.label_smoothing * F.logsigmoid(-margin)


def sft(logps: PairLogps, knobs: SftLossConfig) -> Tensor:
    """Supervised fine-tuning, per response [R]: the negative log-probability summed over its tokens. The step divides
    by the answer tokens of the global batch, which makes it the mean per token."""
    return -logps.policy


def rewards(logps: PairLogps, beta: float) -> tuple[Tensor, Tensor]:
    """Implicit rewards beta * (log pi - log ref) of the chosen and rejected responses: two [P] (eq. 5 up to the
    partition function, which cancels in a pair)."""
    assert logps.reference is not None
    return logps.sides(beta * (logps.policy - logps.reference))


@dataclass(kw_only=True, slots=True)
class LossKind:
    """What the rest of the trainer has to know about a loss."""

    function: Callable[[PairLogps, Any], Tensor]
    per: str  # its unit and global denominator: "pair" or "token"
    needs_reference: bool
    first: Callable[[Any], float | None]  # its value when policy = reference, per unit; None: not known beforehand


LOSSES = {
    "sigmoid": LossKind(function=sigmoid, per="pair", needs_reference=True, first=lambda knobs: math.log(2)),
    "sft": LossKind(function=sft, per="token", needs_reference=False, first=lambda knobs: None),
}


class Loss:
    """One loss with its knobs, as the step uses it."""

    def __init__(self, knobs: LossConfig):
        self.knobs, self.kind = knobs, LOSSES[knobs.name]
        self.beta = knobs.beta if isinstance(knobs, SigmoidLossConfig) else None
        self.answers = knobs.answers if isinstance(knobs, SftLossConfig) else "both"  # whose responses are computed

    @property
    def first(self) -> float | None:
        return self.kind.first(self.knobs)

    def denominator(self, n_pairs: int, n_response_tokens: int) -> int:
        """What the sum over the global batch is divided by."""
        return n_pairs if self.kind.per == "pair" else n_response_tokens

    def value_and_slope(self, logps: PairLogps) -> tuple[Tensor, Tensor]:
        """The losses of a micro-batch's units [units], and the derivative of their sum per log-probability [R].

        The chain rule in two halves: the model's backward needs only this derivative, wherever it was computed.
        """
        if not logps.real:
            return logps.policy.new_zeros(0), torch.zeros_like(logps.policy)
        with torch.enable_grad():
            leaf = logps.policy.detach().requires_grad_()
            values = self.kind.function(
                PairLogps(policy=leaf, reference=logps.reference, tokens=logps.tokens, pairs=logps.pairs), self.knobs
            )
            (slope,) = torch.autograd.grad(values.sum(), leaf)
        return values.detach(), slope
