"""Frozen weights that follow those of the policy (TR-DPO, Gorbatovski et al. 2024, arXiv:2404.09656)."""

import torch
from torch import Tensor, nn

from dpo.config.schema import MovingReferenceConfig
from dpo.distributed.placement import held, regather, shape, share
from dpo.distributed.world import World
from dpo.errors import ModelError


class MovingWeights:
    """Every parameter of the policy that learns, paired with the frozen one that follows it.

    They move towards the weights that compute, each worker's part alone, and no weight is sent: two sharded parameters
    of one shape have the same shards. In half precision with a mix below 1 their float32 values are kept beside them, 4
    bytes per weight, sharded as they are: bf16 rounds to 8 bits, so steps below 2^-9 of a weight would all be lost.
    """

    def __init__(
        self,
        leaders: list[tuple[str, nn.Parameter]],
        followers: dict[str, nn.Parameter],
        settings: MovingReferenceConfig,
        world: World,
    ):
        """Raises ModelError when a parameter has no follower of its shape."""
        self._pairs = {name: (leader, _match(name, leader, followers)) for name, leader in leaders}
        self._every, self._mix, self._world = settings.sync_every, settings.sync_mix, world
        exact = self._mix == 1 or world.dtype is torch.float32
        self._averages = {} if exact else {name: held(f).float() for name, (_, f) in self._pairs.items()}

    def follow(self, applied: int, moves: int) -> int:
        """Before a step, `applied` steps and `moves` moves after the start: the moves after this one, if it is due.

        Not behind the step before: what is measured there is measured against the reference that it learnt from.
        """
        due = applied // self._every
        if due > moves:
            self.move()
        return due

    @torch.no_grad()
    def move(self) -> None:
        """follower <- mix * leader + (1 - mix) * follower. A collective."""
        for name, (leader, follower) in self._pairs.items():
            here = held(leader) if hasattr(leader, "ds_id") else share(leader, follower, self._world.rank)
            average = self._averages.get(name, held(follower))[: len(here)]
            average.lerp_(here.to(average), self._mix)  # exact at 1: the leader's value
            if name in self._averages:
                held(follower)[: len(here)].copy_(average)
        regather([follower for _, follower in self._pairs.values()])

    def whole(self, name: str) -> Tensor:
        """A follower, whole, float32; it may be the live one. A collective."""
        _, follower = self._pairs[name]
        values = self._averages.get(name, held(follower)).float()
        if hasattr(follower, "ds_id"):
            values = self._world.gather(values.to(self._world.device)).flatten()[: shape(follower).numel()]
        return values.view(shape(follower))

    @torch.no_grad()
    def load(self, name: str, values: Tensor) -> None:
        """Put back what `whole` gave."""
        _, follower = self._pairs[name]
        here = share(values, follower, self._world.rank)
        held(follower)[: len(here)].copy_(here)
        if name in self._averages:
            self._averages[name][: len(here)].copy_(here)

    def finish_loading(self) -> None:
        """After the last `load`. A collective."""
        regather([follower for _, follower in self._pairs.values()])


def _match(name: str, leader: nn.Parameter, followers: dict[str, nn.Parameter]) -> nn.Parameter:
    follower = followers.get(name)
    if follower is None or shape(follower) != shape(leader):
        found = "no such weight" if follower is None else f"one of shape {list(shape(follower))}"
        raise ModelError(
            f"reference=moving mixes the reference with the policy, whose {name} has shape {list(shape(leader))}; the "
            f"reference has {found}. Give a reference.path of the same architecture, or use reference=cached."
        )
    return follower
