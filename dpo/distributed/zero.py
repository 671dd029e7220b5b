"""The engine over DeepSpeed: ZeRO 1, 2 and 3 (Rajbhandari et al. 2020, arXiv:1910.02054), set up by accelerate."""

from collections.abc import Iterator

from deepspeed.runtime.zero import parameter_offload
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
)
from torch import Tensor, nn

from dpo.config.schema import OptimConfig
from dpo.data.batch import Batch
from dpo.distributed.applied_steps import AppliedSteps
from dpo.distributed.engine import Stepped, trained
from dpo.distributed.loss_scale import DeepSpeedLossScale
from dpo.distributed.placement import overwrite
from dpo.distributed.world import World
from dpo.distributed.zero_moments import FlatMoments
from dpo.optim import MOMENTS, adamw, parameter_groups


class ZeroEngine(AppliedSteps):
    """Shards optimizer state (1), gradients too (2), weights too (3)."""

    def __init__(self, scorer: nn.Module, optim: OptimConfig, world: World):
        self.scorer, self.world = scorer, world
        self._parameters = trained(scorer)
        optimizer = adamw(parameter_groups(self._parameters, optim.weight_decay), optim)
        world.accelerator.state.select_deepspeed_plugin("policy")
        self.engine, _ = world.accelerator.prepare(scorer, optimizer)
        self._moments = FlatMoments(self.engine.optimizer, optim.kind == "adamw_8bit")
        fp16 = world.precision == "fp16"
        self._scale = DeepSpeedLossScale(self.engine.optimizer.loss_scaler) if fp16 else None

    def forward(self, batch: Batch) -> Tensor:
        return self.engine(batch)

    def backward(self, objective: Tensor, last: bool) -> None:
        self.engine.set_gradient_accumulation_boundary(last)
        # DeepSpeed averages gradients over workers; the objective is this worker's part of a sum.
        self.engine.backward(objective * self.world.size)

    def step(self, lr: float) -> Stepped:
        """DeepSpeed 0.19.8 itself drops a step whose norm is not finite, in every stage and precision, and says inf."""
        for group in self.engine.optimizer.param_groups:
            group["lr"] = lr
        scale = self._scale.value if self._scale else None
        self.engine.step()
        stepped = Stepped(grad_norm=float(self.engine.get_global_grad_norm()), loss_scale=scale)
        self.applied += stepped.applied
        stepped.rescaled = self._scale is not None and not stepped.applied and self._scale.value != scale
        return stepped

    def parameters(self) -> list[tuple[str, nn.Parameter]]:
        return self._parameters

    def state(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        for name, p in self._parameters:
            parts = {"weight": safe_get_full_fp32_param(p)}
            parts |= {key: safe_get_full_optimizer_state(p, key) for key in MOMENTS}
            yield name, {key: value.detach() for key, value in parts.items() if value is not None}

    def load_state(self, name: str, tensors: dict[str, Tensor]) -> None:
        self._moments.begin_loading(self.applied)
        parameter = dict(self._parameters)[name]
        # The master weights do not reach the weights that compute before the next step: set both.
        overwrite(parameter, lambda: tensors["weight"])
        safe_set_full_fp32_param(parameter, tensors["weight"].to(self.world.device))
        for key in MOMENTS:
            if key in tensors:
                safe_set_full_optimizer_state(parameter, tensors[key].to(self.world.device), key)

    def finish_loading(self) -> None:
        self._moments.finish_loading()


def forget_models() -> None:
    """DeepSpeed keeps the top module of every engine it ever made (0.19.8, parameter_offload.FWD_MODULE_STACK), and
    with it that engine's shards. Call where no engine lives."""
    parameter_offload.FWD_MODULE_STACK.clear()


def shard_frozen(scorer: nn.Module, world: World) -> nn.Module:
    """A frozen model under its own DeepSpeed engine: its forward gathers each layer and lets it go again."""
    state = world.accelerator.state
    state.select_deepspeed_plugin("reference")
    try:
        return world.accelerator.prepare(scorer)
    finally:
        # transformers asks the selected one whether a model that it loads is to be sharded: the policy may come next.
        state.select_deepspeed_plugin("policy")
