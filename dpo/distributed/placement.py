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


def shape(parameter: Tensor) -> torch.Size:
    """The shape of the whole parameter, sharded or not."""
    return getattr(parameter, "ds_shape", parameter.shape)
