"""The engine without DeepSpeed: whole weights on every worker, gradients summed once per step."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from dpo.config.schema import OptimConfig
from dpo.data.batch import Batch
from dpo.distributed.engine import trained
from dpo.distributed.world import World
from dpo.optim import MOMENTS, adamw, parameter_groups, read_moments, set_moments

BUCKET = 2**26  # elements summed in one collective: 256 MiB in float32


class PlainEngine:
    """Computes in the model's own type; with bf16 or fp16 the optimizer works on float32 masters of the weights, and
    gradients of all micro-batches add up in float32."""

    def __init__(self, scorer: nn.Module, optim: OptimConfig, world: World):
        self.scorer, self.world, self.max_grad_norm = scorer, world, optim.max_grad_norm
        self._parameters = trained(scorer)
        self._masters = [(name, self._master(p)) for name, p in self._parameters]
        self.optimizer = adamw(parameter_groups(self._masters, optim.weight_decay), optim)
        self._scaler = torch.amp.GradScaler(world.device.type, enabled=world.precision == "fp16")

    def forward(self, batch: Batch) -> Tensor:
        return self.scorer(batch)

    def backward(self, objective: Tensor, last: bool) -> None:
        self._scaler.scale(objective).backward()
        if last and self.world.size > 1:
            self._sum_gradients()

    def step(self, lr: float) -> Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        masters = [m for _, m in self._masters]
        self._scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(masters, self.max_grad_norm or float("inf"))
        self._scaler.step(self.optimizer)
        self._scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for (_, p), (_, master) in zip(self._parameters, self._masters, strict=True):
                if p is not master:
                    p.copy_(master)
        return norm

    def parameters(self) -> list[tuple[str, nn.Parameter]]:
        return self._parameters

    def state(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        for name, master in self._masters:
            moments = read_moments(self.optimizer.state.get(master, {}), master)
            parts = {"weight": master.detach(), **moments}
            yield name, {key: value.float().cpu() for key, value in parts.items()}

    @torch.no_grad()
    def load_state(self, name: str, tensors: dict[str, Tensor], step: int) -> None:
        master = dict(self._masters)[name]
        master.copy_(tensors["weight"])
        dict(self._parameters)[name].copy_(master)
        if all(k in tensors for k in MOMENTS):
            moments = {k: tensors[k].to(master) for k in MOMENTS}
            set_moments(self.optimizer, master, moments, step)

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

    def _sum_gradients(self) -> None:
        """One collective per bucket of gradients. A parameter that no worker's rows touched has a zero gradient."""
        bucket: list[Tensor] = []
        for _, master in self._masters:
            if master.grad is None:
                master.grad = torch.zeros_like(master)
            bucket.append(master.grad)
            if sum(g.numel() for g in bucket) >= BUCKET:
                self._sum_bucket(bucket)
                bucket = []
        self._sum_bucket(bucket)

    def _sum_bucket(self, bucket: list[Tensor]) -> None:
        if not bucket:
            return
        flat = self.world.sum(torch.cat([g.flatten() for g in bucket]))
        for gradient, part in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
            gradient.copy_(part.view_as(gradient))
