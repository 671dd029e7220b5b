"""The engine without DeepSpeed: whole weights on every worker, gradients summed once per step, during its last
backward."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from dpo.config.schema import OptimConfig
from dpo.data.batch import Batch
from dpo.distributed.applied_steps import AppliedSteps
from dpo.distributed.engine import Stepped, trained
from dpo.distributed.gradient_sums import GradientSums
from dpo.distributed.loss_scale import LossScale
from dpo.distributed.world import World
from dpo.optim import MOMENTS, adamw, parameter_groups, read_moments, set_moments


class PlainEngine(AppliedSteps):
    """Computes in the model's own type; with bf16 or fp16 the optimizer works on float32 masters of the weights, and
    gradients of all micro-batches add up in float32."""

    _scale: LossScale | None

    def __init__(self, scorer: nn.Module, optim: OptimConfig, world: World):
        self.scorer, self.world, self.max_grad_norm = scorer, world, optim.max_grad_norm
        self._parameters = trained(scorer)
        self._masters = [(name, self._master(p)) for name, p in self._parameters]
        weights, masters = ([p for _, p in named] for named in (self._parameters, self._masters))
        self._sums = GradientSums(weights, masters, world) if world.size > 1 else None
        self.optimizer = adamw(parameter_groups(self._masters, optim.weight_decay), optim)
        self._scale = LossScale(world.device.type) if world.precision == "fp16" else None

    def forward(self, batch: Batch, aligned: bool = False) -> Tensor:
        return self.scorer(batch, aligned)

    def backward(self, objective: Tensor, last: bool) -> None:
        summing = self._sums if last else None
        if summing:
            summing.begin()
        (self._scale.multiply(objective) if self._scale else objective).backward()
        if summing:
            summing.finish()

    def step(self, lr: float) -> Stepped:
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        if self._scale:
            self._scale.divide(self.optimizer)
        masters = [m for _, m in self._masters]
        norm = torch.nn.utils.clip_grad_norm_(masters, self.max_grad_norm or float("inf"))
        stepped = Stepped(grad_norm=norm.item())
        if stepped.applied:
            self.applied += 1
            self.optimizer.step()
            self._publish()
        self.optimizer.zero_grad(set_to_none=True)
        if self._scale:
            stepped.loss_scale = self._scale.value
            stepped.rescaled = self._scale.update()
        return stepped

    @torch.no_grad()
    def _publish(self) -> None:
        """From the masters to the weights that compute."""
        for (_, p), (_, master) in zip(self._parameters, self._masters, strict=True):
            if p is not master:
                p.copy_(master)

    def parameters(self) -> list[tuple[str, nn.Parameter]]:
        return self._parameters

    def state(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        for name, master in self._masters:
            moments = read_moments(self.optimizer.state.get(master, {}), master)
            yield name, {"weight": master.detach(), **moments}

    @torch.no_grad()
    def load_state(self, name: str, tensors: dict[str, Tensor]) -> None:
        master = dict(self._masters)[name]
        master.copy_(tensors["weight"])
        dict(self._parameters)[name].copy_(master)
        if all(k in tensors for k in MOMENTS):
            # Copied: what a file gives on the CPU is a view of the file, which a later save removes.
            moments = {k: tensors[k].to(master, copy=True) for k in MOMENTS}
            set_moments(self.optimizer, master, moments, self.applied)

    def finish_loading(self) -> None:
        """Every `load_state` has done so for its parameter."""

    def _master(self, parameter: nn.Parameter) -> nn.Parameter:
        if parameter.dtype == torch.float32:
            return parameter
        master = nn.Parameter(parameter.detach().float())

        def collect(p: Tensor) -> None:
            assert p.grad is not None
            master.grad = p.grad.float() if master.grad is None else master.grad.add_(p.grad)
            p.grad = None

        parameter.register_post_accumulate_grad_hook(collect)
        return master
