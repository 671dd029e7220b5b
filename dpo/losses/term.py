"""One loss with its knobs and its weight: `loss=mix` has several, every other loss one."""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from dpo.config.losses import BetaLossConfig, LossConfig, MixLossConfig
from dpo.data.batch import Counts, PairLogps
from dpo.losses.kind import LossKind
from dpo.losses.registry import LOSSES, kind_of
from dpo.losses.running import MovingMean, RunningMean


@dataclass(kw_only=True, slots=True)
class Term:
    """A loss as it stands in a sum, with what it remembers."""

    name: str  # in the metrics, different from those of other terms
    kind: LossKind
    knobs: Any
    weight: float = 1.0
    first_beta: float | None = field(init=False)  # of one that changes over the run
    seen: RunningMean | MovingMean | None = field(init=False)  # of the steps so far, where that is the baseline
    step_beta: float | None = field(init=False, default=None)  # of the last step, where it has one of its own

    def __post_init__(self) -> None:
        changes = isinstance(self.knobs, BetaLossConfig) and self.knobs.beta_final is not None
        self.first_beta = self.knobs.beta if changes else None
        self.seen = _memory(self.kind, self.knobs)

    def at(self, progress: float) -> None:
        """Take the beta of this share of the run."""
        if self.first_beta is not None:
            beta = self.first_beta + progress * (self.knobs.beta_final - self.first_beta)
            self.knobs = replace(self.knobs, beta=beta)

    @property
    def of_chosen(self) -> bool:
        """Whether it learns nothing but good answers."""
        return self.kind.per == "token" and self.knobs.answers == "chosen"

    @property
    def takes_unpaired(self) -> bool:
        """Rows with one answer and a label; of fine-tuning on both answers none says what a bad one is for."""
        return self.kind.unpaired and (self.kind.per != "token" or self.of_chosen)

    def units(self, counts: Counts) -> int:
        """What the sum over the global batch is divided by."""
        if self.kind.per != "token":
            return counts.pairs if self.kind.per == "pair" else counts.answers
        return counts.chosen_tokens if self.of_chosen else counts.response_tokens

    def values(self, logps: PairLogps) -> Tensor:
        """The losses of its units."""
        return self.kind.function(logps, self.knobs)

    def value_and_slope(self, logps: PairLogps) -> tuple[Tensor, Tensor]:
        """The losses of its units, and the derivative of their sum per log-probability [R]."""
        with torch.enable_grad():
            leaf = logps.policy.detach().requires_grad_()
            values = self.values(replace(logps, policy=leaf))
            (slope,) = torch.autograd.grad(values.sum(), leaf)
        return values.detach(), slope

    def with_baseline(self, step: PairLogps, learning: bool) -> PairLogps:
        """All pairs of a step, with the mean of what was seen; in a step of training these pairs count in it."""
        if self.seen is None or self.kind.seen is None:
            return step
        values = self.kind.seen(step, self.knobs) if learning else step.policy.new_zeros(0)
        step = replace(step, baseline=self.seen.including(values))
        if learning and self.kind.step_beta:
            self.step_beta = self.kind.step_beta(step, self.knobs).item()
        return step

    def baseline(self, logps: PairLogps) -> Tensor | float | None:
        """What the rewards of the step under way are measured from, as a reward; None without a baseline."""
        if self.kind.baseline == "none":
            return None
        if self.kind.baseline == "mismatched":
            return self.knobs.beta * logps.baseline
        assert self.seen is not None
        # bco sees rewards, beta_dpo nats.
        return self.seen.coming_mean * (self.knobs.beta if self.kind.baseline == "moving" else 1.0)

    @property
    def changing_beta(self) -> float | None:
        """Of the last step; None of one that stays the same."""
        return self.knobs.beta if self.step_beta is None and self.first_beta is not None else self.step_beta


def _memory(kind: LossKind, knobs: Any) -> RunningMean | MovingMean | None:
    if kind.baseline == "moving":
        return MovingMean(momentum=knobs.momentum)
    return RunningMean() if kind.baseline == "running" else None


def terms_of(knobs: LossConfig) -> list[Term]:
    """Those of a mix, or the loss itself. Equal names are numbered."""
    if not isinstance(knobs, MixLossConfig):
        return [Term(name=kind_of(knobs).name, kind=kind_of(knobs), knobs=knobs)]
    times = Counter(term["name"] for term in knobs.terms)
    terms = []
    for number, given in enumerate(knobs.terms, start=1):
        kind = LOSSES[given["name"]]
        own = {key: value for key, value in given.items() if key != "weight"}
        name = kind.name if times[kind.name] == 1 else f"{kind.name}_{number}"
        terms.append(Term(name=name, kind=kind, knobs=kind.knobs(**own), weight=given.get("weight", 1.0)))
    return terms
