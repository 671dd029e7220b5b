"""An engine whose weights a reference follows: its checkpoints hold both."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from dpo.data.batch import Batch
from dpo.distributed.engine import Engine, Stepped
from dpo.distributed.moving import MovingWeights
from dpo.errors import CheckpointError

PART = "reference"


class FollowedEngine:
    """`engine`, with the followers' values among the tensors of each parameter."""

    def __init__(self, engine: Engine, followers: MovingWeights):
        self.engine, self.followers = engine, followers
        self.scorer = engine.scorer

    def forward(self, batch: Batch, aligned: bool = False) -> Tensor:
        return self.engine.forward(batch, aligned)

    def backward(self, objective: Tensor, last: bool) -> None:
        self.engine.backward(objective, last)

    def step(self, lr: float) -> Stepped:
        return self.engine.step(lr)

    @property
    def applied(self) -> int:
        return self.engine.applied

    def parameters(self) -> list[tuple[str, nn.Parameter]]:
        return self.engine.parameters()

    def state(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        for name, tensors in self.engine.state():
            yield name, {**tensors, PART: self.followers.whole(name)}

    def load_state(self, name: str, tensors: dict[str, Tensor]) -> None:
        """Raises CheckpointError when the checkpoint is of a run whose reference did not move."""
        if PART not in tensors:
            raise CheckpointError(
                f"the checkpoint has no reference for {name}: it is of a run without reference=moving. Continue it "
                "with its own reference=, or start afresh with resume=never."
            )
        self.followers.load(name, tensors[PART])
        self.engine.load_state(name, {part: tensor for part, tensor in tensors.items() if part != PART})

    def finish_loading(self) -> None:
        self.engine.finish_loading()
        self.followers.finish_loading()

    def state_dict(self) -> dict[str, Any]:
        return self.engine.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.engine.load_state_dict(state)
