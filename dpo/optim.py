"""AdamW, its parameter groups, and the learning rate as a function of the step: there is no scheduler state to lose."""

import math
from typing import Any

import torch
from torch import nn

from dpo.config.schema import OptimConfig

# Full fine-tuning: the usual rate of DPO recipes for 7B models (Zephyr, Tulu 3: 5e-7). Adapters learn from zero.
FULL_LR, ADAPTER_LR = 5e-7, 5e-5


def default_lr(adapter: str) -> float:
    return FULL_LR if adapter == "none" else ADAPTER_LR


def parameter_groups(named: list[tuple[str, nn.Parameter]], weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases and norm weights (fewer than two dimensions) never do. Empty groups are left out."""
    matrices = [p for _, p in named if len(getattr(p, "ds_shape", p.shape)) >= 2]
    vectors = [p for _, p in named if len(getattr(p, "ds_shape", p.shape)) < 2]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def adamw(groups: list[dict[str, Any]], config: OptimConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101). The learning rate is set before every step."""
    assert config.lr is not None
    return torch.optim.AdamW(groups, lr=config.lr, betas=(config.beta1, config.beta2), eps=config.eps)


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
