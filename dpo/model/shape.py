"""A model's size without its weights: from the shape that conf/model states, or from its config.json."""

from dataclasses import asdict

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.modeling_utils import set_zero3_state

from dpo.config.shape import ShapeConfig
from dpo.distributed.sizes import KEPT_WHOLE
from dpo.errors import ModelError
from dpo.model import attention, remote_code
from dpo.model.source import ModelSource
from dpo.planner.architecture import Architecture, Linears

LARGE = 2**23  # elements: such tensors have pages of their own on a CPU


def stated_config(shape: ShapeConfig) -> PretrainedConfig:
    """The configuration that a stated shape describes.

    Raises:
        ModelError: transformers knows no such architecture.
    """
    values = {key: value for key, value in asdict(shape).items() if value is not None}
    kind = values.pop("model_type")
    try:
        config = AutoConfig.for_model(kind)
    except ValueError as error:
        raise ModelError(f"model.shape.model_type={kind}: transformers knows no such architecture") from error
    for key, value in values.items():
        setattr(config, key, value)  # by the names that architectures share: GPT-2's own is n_embd
    if hasattr(config, "layer_types"):
        config.layer_types = None
        config.__post_init__()  # one entry per layer
    return config


def require_shape(shape: ShapeConfig | None, config: PretrainedConfig, source: ModelSource) -> None:
    """Hold a stated shape to the model's own config.

    Raises:
        ModelError: with every value that differs, as stated and as found.
    """
    if shape is None:
        return
    own = config.get_text_config()
    wrong = [
        f"model.shape.{key}={value}, but {found} in its config.json"
        for key, value in asdict(shape).items()
        if value is not None and (found := getattr(own, key, None)) != value
    ]
    if wrong:
        raise ModelError(
            f"{source.setting}={source.name} is not the model that model.shape describes: {'; '.join(wrong)}. For "
            "another model choose model=hf or model.shape=null; otherwise correct the shape."
        )


def architecture_of(config: PretrainedConfig, source: ModelSource) -> Architecture:
    """Counted on the model's structure, whose tensors have shapes and no memory. One worker may do so alone: once
    ZeRO-3 is set up, transformers (5.23) would shard every model that it builds, and wait for the others.

    Raises:
        ModelError: no causal language model, or one without a size that is stated.
    """
    with torch.device("meta"), set_zero3_state(), remote_code.allowed(source):
        try:
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=source.trust_remote_code)
        except ValueError as error:
            raise ModelError(f"{source.setting}={source.name} is no causal language model: {error}") from error
    return _counted(model, source.name)


def _counted(model: PreTrainedModel, name: str) -> Architecture:
    config = model.config.get_text_config()
    layers, hidden, heads = config.num_hidden_layers, config.hidden_size, config.num_attention_heads
    sizes = {key: p.numel() for key, p in model.named_parameters()}
    head = model.get_output_embeddings()
    linears = _linears(model, head)
    return Architecture(
        name=name,
        parameters=sum(sizes.values()),
        layer_parameters=_layer_parameters(model, layers),
        small_parameters=sum(size for size in sizes.values() if size < KEPT_WHOLE),
        large_parameters=sum(size for size in sizes.values() if size >= LARGE),
        largest=max(sizes.values()),
        vocabulary=config.vocab_size,
        tied=bool(config.tie_word_embeddings),
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_size=getattr(config, "head_dim", None) or hidden // heads,
        intermediate=_intermediate(linears, hidden, layers),
        gated="gate_proj" in linears or "gate_up_proj" in linears,
        fused_norm=any(isinstance(module, nn.LayerNorm) for module in model.modules()),
        spelt_activation=_activation(config) in ("gelu_new", "gelu_fast"),
        packed=attention.unsupported(model) is None,
        linears=linears,
    )


def _activation(config: PretrainedConfig) -> str | None:
    return getattr(config, "hidden_act", None) or getattr(config, "activation_function", None)


def _layer_parameters(model: PreTrainedModel, layers: int) -> int:
    """Of the largest stack of `layers` equal modules, one."""
    stacks = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) == layers]
    return max((sum(p.numel() for p in stack.parameters()) // layers for stack in stacks), default=0)


def _linears(model: PreTrainedModel, head: nn.Module | None) -> dict[str, Linears]:
    found: dict[str, Linears] = {}
    for path, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if module is head or weight is None or not (isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"):
            continue
        own = found.setdefault(path.rsplit(".", 1)[-1], Linears(count=0, inputs=0, outputs=0))
        own.count += 1
        own.inputs += weight.shape[1]  # of Conv1D the other way round: only the sum counts
        own.outputs += weight.shape[0]
    return found


def _intermediate(linears: dict[str, Linears], hidden: int, layers: int) -> int:
    """Width of the feed-forward block: the widest that a linear layer gives or takes."""
    if fused := linears.get("gate_up_proj"):  # both in one matrix
        return max(fused.inputs, fused.outputs) // fused.count // 2
    return max((max(own.inputs, own.outputs) // own.count for own in linears.values()), default=4 * hidden)
