"""The loss of a run as the step uses it: one loss, or the weighted sum of several."""

from typing import Any, Literal

import torch
from torch import Tensor

from dpo.config.losses import LossConfig
from dpo.data.batch import Counts, PairLogps, join
from dpo.losses.kind import Sides
from dpo.losses.term import terms_of

Share = list[tuple[Tensor, Tensor] | None]
"""What a micro-batch has in its step, per term: the losses of its units and their slope [R]; None for a term whose
values depend on the micro-batch alone."""


class Loss:
    """Every term gives the losses of its units, not a mean: the step divides by the units of the whole global batch, so
    that neither workers nor micro-batches change the result."""

    def __init__(self, knobs: LossConfig):
        self.terms = terms_of(knobs)
        kinds = [term.kind for term in self.terms]
        self.needs_reference = any(kind.needs_reference for kind in kinds)
        self.needs_margin = any(kind.needs_margin for kind in kinds)
        self.needs_mismatched = any(kind.baseline == "mismatched" for kind in kinds)
        self.scope: Literal["pair", "step"] = "step" if any(kind.scope == "step" for kind in kinds) else "pair"
        self.compares = any(kind.per != "token" for kind in kinds)  # good answers with bad ones
        self.takes_unpaired = all(term.takes_unpaired for term in self.terms)
        self._rewarding = next((term for term in self.terms if term.kind.rewards), None)

    @property
    def answers(self) -> str:
        """Whose responses have to be computed: "both", or "chosen"."""
        return "chosen" if all(term.of_chosen for term in self.terms) else "both"

    @property
    def beta(self) -> float | None:
        """Of the only term, where it pulls to the reference."""
        return self.terms[0].knobs.beta if len(self.terms) == 1 and self.needs_reference else None

    def at(self, progress: float) -> None:
        """Take the betas of this share of the run, 0 to 1; before a step and before it is measured."""
        for term in self.terms:
            term.at(progress)

    @property
    def betas(self) -> dict[str, float]:
        """Those that change over the run, as of the last step, by what a record calls them."""
        changing = {term.name: term.changing_beta for term in self.terms if term.changing_beta is not None}
        return {"beta" if len(self.terms) == 1 else f"beta/{name}": beta for name, beta in changing.items()}

    @property
    def first(self) -> float | None:
        """The value while policy = reference; None: not known beforehand."""
        values = [term.kind.first(term.knobs) for term in self.terms]
        known = [term.weight * value for term, value in zip(self.terms, values, strict=True) if value is not None]
        return sum(known) if len(known) == len(values) else None

    @property
    def has_rewards(self) -> bool:
        return self._rewarding is not None

    @property
    def has_baseline(self) -> bool:
        return any(term.kind.baseline != "none" for term in self.terms)

    def rewards(self, logps: PairLogps) -> Sides:
        """Of the good and bad answers as the loss itself sees them; a mix as its first term that has any."""
        assert self._rewarding is not None and self._rewarding.kind.rewards is not None
        return self._rewarding.kind.rewards(logps, self._rewarding.knobs)

    def baseline(self, logps: PairLogps) -> Tensor | float | None:
        """What rewards are measured from, in the first term that has one. After `shares`."""
        found = (term.baseline(logps) for term in self.terms)
        return next((value for value in found if value is not None), None)

    def values(self, logps: PairLogps, share: Share | None = None) -> list[Tensor]:
        """Per term the losses of a micro-batch's units."""
        return self.value_and_slope(logps, [1] * len(self.terms), share)[0]

    def value_and_slope(
        self, logps: PairLogps, units: list[int], share: Share | None = None
    ) -> tuple[list[Tensor], Tensor]:
        """Per term the losses of a micro-batch's units; and the derivative of the weighted sum over the terms of
        `sum / units` per log-probability [R].

        The chain rule in two halves: the model's backward needs only this derivative, wherever it was computed.
        `share`: from `shares`, for a loss whose scope is the step. `units`: of the global batch, from `units`.
        """
        slope = torch.zeros_like(logps.policy)
        if not logps.real:
            return [logps.policy.new_zeros(0) for _ in self.terms], slope
        values = []
        for number, term in enumerate(self.terms):
            known = share[number] if share else None
            assert known or term.kind.scope == "pair", f"{term.name} needs its share of the step"
            own, derivative = known or term.value_and_slope(logps.widened())
            values.append(own.to(slope.device))
            slope += derivative.to(slope) * (term.weight / units[number])
        return values, slope

    def units(self, counts: Counts) -> list[int]:
        """Per term what its sum is divided by."""
        return [term.units(counts) for term in self.terms]

    def shares(self, parts: list[PairLogps], *, learning: bool) -> list[Share]:
        """Of every part, when all parts together are a step: what the terms whose scope is the step give it.
        `learning`: of a step of training, which counts in what the loss remembers, once it is accepted."""
        whole = join(parts).widened()
        found: list[Share] = [[] for _ in parts]
        for term in self.terms:
            if term.kind.scope == "pair":
                split: Share = [None] * len(parts)
            else:
                values, slope = term.value_and_slope(term.with_baseline(whole, learning))
                own = values.split([part.n_rows * part.real for part in parts])
                slopes = slope.split([len(part.policy) * part.real for part in parts])
                split = list(zip(own, slopes, strict=True))
            for share, one in zip(found, split, strict=True):
                share.append(one)
        return found

    def per_pair(self, logps: PairLogps) -> Tensor | None:
        """[rows] the loss of each pair, or of each good answer where nothing else is learnt; None where a row alone has
        none."""
        if self.scope == "step" or self.needs_mismatched:
            return None
        total = torch.zeros(logps.n_rows, dtype=torch.float64, device=logps.policy.device)
        for term, values in zip(self.terms, self.values(logps), strict=True):
            of_responses = term.kind.per == "token" and not term.of_chosen
            total += term.weight * (values[logps.pairs].sum(1) if of_responses else values)
        return total

    def accept(self) -> None:
        """The step under way was applied."""
        for term in self.terms:
            if term.seen:
                term.seen.accept()

    @property
    def remembers(self) -> bool:
        """Whether `state_dict` holds anything."""
        return any(term.seen for term in self.terms)

    def state_dict(self) -> dict[str, Any]:
        return {term.name: term.seen.state_dict() for term in self.terms if term.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for term in self.terms:
            if term.seen:
                term.seen.load_state_dict(state[term.name])
