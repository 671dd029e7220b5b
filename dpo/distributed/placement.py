"""Where weights lie: whole on every worker, or one shard on each (ZeRO-3).

A sharded model is loaded tensor by tensor: at no time does a worker hold more than one whole tensor beside its shard.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from dpo.distributed.world import World


class Placement:
    """Puts the weights of one model (the policy or the reference) where the world wants them."""

    def __init__(self, world: World, role: str):
        self.world, self.role = world, role
        self.sharded = world.zero == 3 or (world.zero > 0 and role == "reference")
        self.device, self.dtype = world.device, world.dtype

    def building(self) -> Any:
        """Context in which a model is constructed: sharded parameter by parameter as its modules come to be."""
        if not self.sharded:
            return nullcontext()
        import deepspeed  # seconds, and not needed for plain torch
        from deepspeed.runtime.zero import DeepSpeedTensorOverride

        # By default it also gives its type to every tensor made inside, rotary frequencies too: see `adopt`.
        override = [DeepSpeedTensorOverride.device]
        return deepspeed.zero.Init(config_dict_or_path=self._config(), dtype=self.dtype, tensor_overrides=override)

    def adopt(self, model: nn.Module) -> None:
        """Place a model that was built whole, in the same way on every worker."""
        model.to(device=self.device)
        for parameter in model.parameters():
            # Not the buffers: rotary frequencies in bf16 are off by 0.4 %, which turns the angles of far positions
            # by whole radians.
            parameter.data = parameter.data.to(self.dtype)
        if self.sharded:
            import deepspeed

            deepspeed.zero.Init(module=model, config_dict_or_path=self._config(), dtype=self.dtype)

    def _config(self) -> dict[str, Any]:
        config = self.world.accelerator.state.get_deepspeed_plugin(self.role).deepspeed_config
        return {**config, "train_batch_size": self.world.size}


def overwrite(tensor: Tensor, read: Callable[[], Tensor]) -> None:
    """Give a parameter or buffer the values that `read` returns. A collective for sharded ones; then rank 0 reads."""
    if not hasattr(tensor, "ds_id"):
        tensor.data.copy_(read())
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters([tensor], modifier_rank=0):
        if deepspeed.comm.get_rank() == 0:
            tensor.data.copy_(read())


@contextmanager
def whole(parameters: list[nn.Parameter]) -> Iterator[None]:
    """Inside, sharded parameters are whole on every worker, to be read. A collective: all workers enter."""
    if not any(hasattr(p, "ds_id") for p in parameters):
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(parameters):
        yield


def held(parameter: Tensor) -> Tensor:
    """What this worker holds of a parameter, flat: all of it, or its shard, which is as long on every worker."""
    return getattr(parameter, "ds_tensor", parameter.data).view(-1)


def share(whole: Tensor, parameter: Tensor, rank: int) -> Tensor:
    """The part of `whole` that worker `rank` holds of `parameter`, flat; the last shards have room for more."""
    if not hasattr(parameter, "ds_id"):
        return whole.reshape(-1)
    length = held(parameter).numel()
    return whole.reshape(-1)[rank * length : (rank + 1) * length]


def regather(parameters: list[nn.Parameter]) -> None:
    """After a change of their shards. DeepSpeed keeps small weights whole from one forward to the next: they are
    gathered anew, as after its own optimizer's steps. A collective."""
    sharded: list[Any] = [p for p in parameters if hasattr(p, "ds_id")]
    kept = [p for p in sharded if p.ds_status.name == "AVAILABLE"]
    if kept:
        kept[0].partition(kept)
        kept[0].all_gather(kept)


def shape(parameter: Tensor) -> torch.Size:
    """The shape of the whole parameter, sharded or not."""
    return getattr(parameter, "ds_shape", parameter.shape)
