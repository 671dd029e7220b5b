"""What losses remember between steps: the mean of all values that training has seen, or a moving average of the steps'
means.

A step's values count once the step was applied: of one that was not, nothing may stay.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(kw_only=True, slots=True)
class RunningMean:
    """Every value of every step weighs the same."""

    mean: float = 0.0
    count: int = 0
    coming_mean: float = 0.0  # with those of the step under way
    coming_count: int = 0

    def including(self, values: Tensor) -> float:
        """The mean with `values` of the step under way, which may be none."""
        self.coming_count = self.count + values.numel()
        difference = values.sum(dtype=torch.float64).item() - values.numel() * self.mean
        self.coming_mean = self.mean + difference / max(1, self.coming_count)
        return self.coming_mean

    def accept(self) -> None:
        """The step under way was applied."""
        self.mean, self.count = self.coming_mean, self.coming_count

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self.mean, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.mean, self.count = state["mean"], state["count"]


@dataclass(kw_only=True, slots=True)
class MovingMean:
    """momentum * itself + (1 - momentum) * the mean of a step, from 0 on."""

    momentum: float
    mean: float = 0.0
    coming_mean: float = 0.0  # with the step under way

    def including(self, values: Tensor) -> float:
        """The average with `values` of the step under way, which may be none."""
        own = values.mean(dtype=torch.float64).item() if values.numel() else self.mean
        self.coming_mean = self.momentum * self.mean + (1 - self.momentum) * own
        return self.coming_mean

    def accept(self) -> None:
        """The step under way was applied."""
        self.mean = self.coming_mean

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self.mean}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.mean = state["mean"]
