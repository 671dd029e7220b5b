"""What has been counted since the last record: part of a checkpoint, since a run may stop between two records."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from dpo.distributed.engine import Stepped
from dpo.distributed.world import World
from dpo.losses.loss import Loss
from dpo.metrics import StepStats


@dataclass(kw_only=True, slots=True)
class Window:
    """This worker's sums, and what the next record says of the last step.

    A record adds up the workers' sums. Floating-point addition depends on the grouping, so a resumed run writes the
    same digits as an undisturbed one only when every worker gets its own sums back, not a share of the total.
    """

    world: World
    loss: Loss
    datasets: Sequence[str] = ()  # whose metrics are kept apart, too
    stats: StepStats = field(init=False)
    seconds: float = 0.0
    stepped: Stepped | None = None  # the last one; None: nothing trained since the last record
    lr: float = 0.0  # its learning rate
    batch: str = ""
    epoch: float = 0.0
    _everyone: Tensor = field(init=False)  # [data workers, sums] as of the last `collect`

    def __post_init__(self) -> None:
        self.stats = StepStats(self.loss, self.world.device, self.datasets)
        self._everyone = self.stats.sums[None]

    def collect(self) -> None:
        """Before a checkpoint: bring together what `state_dict` gives. A collective."""
        # Workers that share rows have added up the same sums: the first of each group speaks.
        self._everyone = self.world.gather(self.stats.sums)[:: self.world.sequence_size]

    def state_dict(self) -> dict[str, Any]:
        return {
            "sums": dict(
                zip(self.stats.names, self._everyone.T.tolist(), strict=True)
            ),  # of each worker; JSON keeps every bit
            "seconds": self.seconds,
            "stepped": None if self.stepped is None else asdict(self.stepped),
            "lr": self.lr,
            "batch": self.batch,
            "epoch": self.epoch,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """On another number of workers the first one takes the total."""
        everyone = torch.tensor([state["sums"][name] for name in self.stats.names], dtype=torch.float64).T
        if len(everyone) != self.world.data_size:
            total = everyone.sum(0)
            everyone = torch.stack([total, *[torch.zeros_like(total)] * (self.world.data_size - 1)])
        self._everyone = everyone
        self.stats.sums.copy_(everyone[self.world.data_rank])
        self.stepped = None if state["stepped"] is None else Stepped(**state["stepped"])
        self.lr, self.seconds, self.batch, self.epoch = (state[key] for key in ("lr", "seconds", "batch", "epoch"))
