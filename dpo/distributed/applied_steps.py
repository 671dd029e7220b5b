"""What an engine's state has besides tensors."""

from typing import Any

from dpo.distributed.loss_scale import DeepSpeedLossScale, LossScale


class AppliedSteps:
    """How many optimizer steps weights and moments have taken, and with fp16 the loss scale for the next one."""

    applied = 0
    _scale: LossScale | DeepSpeedLossScale | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"applied": self.applied, "loss_scale": self._scale.state_dict() if self._scale else None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.applied = state["applied"]
        if self._scale:
            self._scale.load_state_dict(state["loss_scale"])
