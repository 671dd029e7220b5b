"""What the trainer has to know about a loss, and the quantities that many of them share.

In equations: c, r: log-probability of the chosen and the rejected answer under the policy; x, y: c and r minus their
log-probabilities under the reference; d = x - y; Lc, Lr: tokens of the answers; s: sigmoid; ls: log sigmoid; b: beta;
e: label smoothing. Natural logarithms, sums over the answer's tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from dpo.config.losses import LossConfig
from dpo.data.batch import PairLogps

Sides = tuple[Tensor, Tensor]
"""Of the good and of the bad answers, see `PairLogps.sides`: two [P], or [P + D] and [P + U] with unpaired rows."""


def ratios(logps: PairLogps) -> Sides:
    """x and y, in nats."""
    assert logps.reference is not None
    return logps.sides(logps.policy - logps.reference)


def mean_ratios(logps: PairLogps) -> Sides:
    """x / Lc and y / Lr, in nats per token."""
    assert logps.reference is not None
    return logps.sides((logps.policy - logps.reference) / logps.tokens)


def implicit_rewards(logps: PairLogps, knobs: Any) -> Sides:
    """b x and b y: the reward that the policy is optimal for (Rafailov et al. 2023, arXiv:2305.18290, eq. 5), up to the
    partition function, which cancels in a pair."""
    x, y = ratios(logps)
    return knobs.beta * x, knobs.beta * y


def mean_rewards(logps: PairLogps, knobs: Any) -> Sides:
    """The same per token, for losses that compare means."""
    x, y = mean_ratios(logps)
    return knobs.beta * x, knobs.beta * y


def unknown(knobs: Any) -> None:
    """First value of losses that depend on lengths, margins or likelihoods."""


@dataclass(kw_only=True, slots=True)
class LossKind:
    """One row of the table."""

    function: Callable[[PairLogps, Any], Tensor]  # the losses of its units, not their mean
    knobs: type[LossConfig]
    equation: str  # of one unit
    paper: str  # authors, year, arXiv number
    # What a unit is, and with it what the step divides by: pairs (an unpaired row counts as one), the answers that are
    # judged, or their tokens, of the global batch.
    per: Literal["pair", "answer", "token"] = "pair"
    # step: a value depends on all pairs of the step, wherever they are computed. Then `function` gets all of them.
    scope: Literal["pair", "step"] = "pair"
    # What `PairLogps.baseline` holds: nothing; the mean of all `seen` so far; a moving average of its means per step;
    # the divergence on mismatched answers.
    baseline: Literal["none", "running", "moving", "mismatched"] = "none"
    seen: Callable[[PairLogps, Any], Tensor] | None = None  # what a step of training adds to that mean
    step_beta: Callable[[PairLogps, Any], Tensor] | None = None  # [] where a step has a beta of its own
    needs_reference: bool = True
    needs_margin: bool = False
    unpaired: bool = False  # whether it learns from rows with one answer and a label, too
    first: Callable[[Any], float | None] = unknown  # mean over pairs while policy = reference
    rewards: Callable[[PairLogps, Any], Sides] | None = implicit_rewards  # what the loss compares; None: nothing

    @property
    def name(self) -> str:
        return self.function.__name__
