"""AdamW, its parameter groups, and the learning rate as a function of the step: there is no scheduler state to lose."""

import importlib.util
import math
from typing import Any

import torch
from torch import Tensor, nn

from dpo.config.schema import OptimConfig
from dpo.errors import EnvironmentProblem

MOMENTS = ("exp_avg", "exp_avg_sq")

# Full fine-tuning: the usual rate of DPO recipes for 7B models (Zephyr, Tulu 3: 5e-7). Adapters learn from zero.
FULL_LR, ADAPTER_LR = 5e-7, 5e-5


def default_lr(adapter: str) -> float:
    return FULL_LR if adapter == "none" else ADAPTER_LR


def parameter_groups(named: list[tuple[str, nn.Parameter]], weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases and norm weights (fewer than two dimensions) never do. Empty groups are left out."""
    matrices = [p for _, p in named if len(getattr(p, "ds_shape", p.shape)) >= 2]
    vectors = [p for _, p in named if len(getattr(p, "ds_shape", p.shape)) < 2]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": weight_decay, "matrices": True},
        {"params": vectors, "weight_decay": 0.0, "matrices": False},
    ]
    return [group for group in groups if group["params"]]


def adamw(groups: list[dict[str, Any]], config: OptimConfig) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101). The learning rate is set before every step."""
    assert config.lr is not None
    settings: dict[str, Any] = {"lr": config.lr, "betas": (config.beta1, config.beta2), "eps": config.eps}
    if config.kind == "adamw_8bit":
        from dpo.optim_8bit import AdamW8bit  # an optional package

        return AdamW8bit(groups, **settings)
    # fused: one pass over memory instead of ten. 20M weights on one CPU core take 0.15 s, unfused 0.97 s and by
    # DeepSpeed's CPUAdam, which would need a compiler, 0.14 s.
    return torch.optim.AdamW(groups, fused=True, **settings)


def require_optimizer(config: OptimConfig) -> None:
    """Raises EnvironmentProblem when the chosen optimizer is not installed."""
    if config.kind == "adamw_8bit" and importlib.util.find_spec("bitsandbytes") is None:
        raise EnvironmentProblem(
            "optim=adamw_8bit needs the package bitsandbytes, which is not installed: pip install "
            "'bitsandbytes>=0.50,<1' (or the extra: pip install -e '.[eightbit]'), or use optim=adamw."
        )


def read_moments(state: dict[str, Any], parameter: Tensor) -> dict[str, Tensor]:
    """The moments in an optimizer's state of `parameter` as float32, in its shape; none before the first step."""
    if "state1" in state:
        from dpo.optim_8bit import Moment

        return {key: Moment(state, key).whole().view_as(parameter) for key in MOMENTS}
    return {key: state[key] for key in MOMENTS if key in state}


def set_moments(optimizer: torch.optim.Optimizer, parameter: Tensor, moments: dict[str, Tensor], step: int) -> None:
    """Give `parameter` these moments, in the form that the optimizer keeps them in, after `step` steps."""
    if isinstance(optimizer, torch.optim.AdamW):
        # The fused step counts on the device.
        optimizer.state[parameter] = {"step": torch.tensor(float(step), device=parameter.device), **moments}
        return
    from dpo.optim_8bit import compress

    held = [any(parameter is p for p in group["params"]) for group in optimizer.param_groups]
    compress(optimizer, held.index(True), parameter, moments, step)


def learning_rate(step: int, total_steps: int, config: OptimConfig) -> float:
    """The rate of `step` (from 0): linear warm-up over `warmup_ratio` of all steps, then the schedule down to
    `min_lr_ratio * lr`."""
    assert config.lr is not None
    warmup = math.ceil(config.warmup_ratio * total_steps)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    if config.scheduler == "constant":
        return config.lr
    progress = (step - warmup) / max(1, total_steps - warmup)
    left = 1 - progress if config.scheduler == "linear" else (1 + math.cos(math.pi * progress)) / 2
    return config.lr * (config.min_lr_ratio + (1 - config.min_lr_ratio) * left)
