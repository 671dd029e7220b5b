"""Dynamic loss scaling for fp16, whose smallest number is 6e-8 (Micikevicius et al. 2018, arXiv:1710.03740, sect. 3.2):
the loss is multiplied before backward, the gradient divided before the step.

A gradient that overflows halves the scale, WINDOW steps without overflow double it. DeepSpeed has its own. It is given
the same numbers, and both keep their state in the same form: a run may change between them.
"""

from typing import Any

import torch
from torch import Tensor

FIRST = 2**16
WINDOW = 2000
LEAST = 1  # overflowing still, it is not the scale that is wrong


class LossScale:
    """Around torch's GradScaler, which has no least scale and applies the step itself."""

    def __init__(self, device: str):
        self._scaler = torch.amp.GradScaler(device, init_scale=FIRST, growth_interval=WINDOW)

    @property
    def value(self) -> float:
        """Waits for the device."""
        return self._scaler.get_scale()

    def multiply(self, objective: Tensor) -> Tensor:
        return self._scaler.scale(objective)

    def divide(self, optimizer: torch.optim.Optimizer) -> None:
        """The gradients of all parameters, in place; remembers whether one was not finite."""
        self._scaler.unscale_(optimizer)

    def update(self) -> bool:
        """For the next step, after `divide`. Returns whether the scale became smaller."""
        before = self.value
        self._scaler.update()
        if self.value < LEAST:
            self._scaler.update(float(LEAST))
        return self.value < before

    def state_dict(self) -> dict[str, Any]:
        state = self._scaler.state_dict()
        return {"scale": state["scale"], "good_steps": state["_growth_tracker"]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        own = {"scale": state["scale"], "_growth_tracker": state["good_steps"]}
        self._scaler.load_state_dict({**self._scaler.state_dict(), **own})


class DeepSpeedLossScale:
    """The one that a DeepSpeed optimizer keeps (0.19.8, runtime/fp16/loss_scaler.py). It does the scaling itself."""

    def __init__(self, scaler: Any):
        self._scaler = scaler
        scaler.raise_error_at_min_scale = False  # a traceback; here such a step counts as a bad one

    @property
    def value(self) -> float:
        return float(self._scaler.cur_scale)

    def state_dict(self) -> dict[str, Any]:
        return {"scale": self.value, "good_steps": self._scaler.cur_iter - self._scaler.last_overflow_iter - 1}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._scaler.cur_scale = state["scale"]
        self._scaler.cur_iter, self._scaler.last_overflow_iter = state["good_steps"], -1
