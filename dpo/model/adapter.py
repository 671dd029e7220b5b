"""LoRA by peft: added to the loaded model in place, so that the base weights serve as reference when it is off."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import PreTrainedModel

from dpo.config.schema import LoraAdapterConfig
from dpo.errors import ModelError

LEARNING = "default"  # peft's own name
SNAPSHOT = "reference"


def add_lora(causal_lm: PreTrainedModel, config: LoraAdapterConfig) -> Any:
    """peft's model around `causal_lm`, whose layers now carry trainable adapters while everything else is frozen.

    Raises:
        ModelError: `adapter.target_modules` names no layer of this model.
    """
    targets: str | list[str] = list(config.target_modules)
    if targets == ["all-linear"]:
        targets = "all-linear"
    lora = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )
    try:
        # The adapter computes in the type of the model; its master weights are float32 in the optimizer.
        return get_peft_model(causal_lm, lora, autocast_adapter_dtype=False)
    except ValueError as error:
        kinds = sorted({n.rsplit(".", 1)[-1] for n, m in causal_lm.named_modules() if _is_linear(m)})
        raise ModelError(
            f"adapter.target_modules={list(config.target_modules)} matches no layer of {type(causal_lm).__name__}; "
            f"it has: {', '.join(kinds)}; or all-linear."
        ) from error


def add_snapshot(adapted: Any) -> None:
    """A second adapter beside the one that learns, with the same weights, frozen. Before an engine takes the model."""
    adapted.add_adapter(SNAPSHOT, copy.deepcopy(adapted.peft_config[LEARNING]), autocast_adapter_dtype=False)
    learning = dict(adapted.named_parameters())
    with torch.no_grad():
        for name, parameter in snapshot_parameters(adapted).items():
            parameter.copy_(learning[name])


def snapshot_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Those of the snapshot, by the names of the parameters that it is one of."""
    named = ((name.split("."), p) for name, p in module.named_parameters())
    return {
        ".".join(LEARNING if part == SNAPSHOT else part for part in parts): p for parts, p in named if SNAPSHOT in parts
    }


@contextmanager
def snapshot_active(adapted: Any) -> Iterator[None]:
    """Inside, the snapshot takes the place of the adapter that learns."""
    adapted.set_adapter(SNAPSHOT, inference_mode=True)
    try:
        yield
    finally:
        adapted.set_adapter(LEARNING)


def lora_layers(causal_lm: nn.Module) -> dict[str, LoraLayer]:
    """The layers that carry an adapter, by their name in the model."""
    return {name: module for name, module in causal_lm.named_modules() if isinstance(module, LoraLayer)}


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
