"""LoRA by peft: added to the loaded model in place, so that the base weights serve as reference when it is off."""

from typing import Any

from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import PreTrainedModel

from dpo.config.schema import LoraAdapterConfig
from dpo.errors import ModelError


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


def lora_layers(causal_lm: nn.Module) -> dict[str, LoraLayer]:
    """The layers that carry an adapter, by their name in the model."""
    return {name: module for name, module in causal_lm.named_modules() if isinstance(module, LoraLayer)}


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
