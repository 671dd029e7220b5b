"""Attention of a row that several workers share (DeepSpeed-Ulysses, Jacobs et al. 2023, arXiv:2309.14509): each attends
over the whole row with its share of the heads, by the same packed attention."""

from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface, PretrainedConfig

from dpo.distributed.sequence import SequenceGroup
from dpo.errors import ModelError
from dpo.model.attention import packed_attention

NAME = "prompt_once_ulysses"
# Rotary frequencies chosen anew in every forward by its largest position, which differs between slices of a row.
LENGTH_DEPENDENT = {"dynamic", "longrope"}


def register() -> None:
    """Make the function known to transformers under `NAME`. Calling it again changes nothing."""
    AttentionInterface.register(NAME, shared_attention)


def shared_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """query [1, H, T/n, D], key and value [1, J, T/n, D] -> output [1, T/n, H, D].

    `sequence`, the group of n workers, comes along from the model's forward, and what `packed_attention` reads.
    """
    sequence: SequenceGroup = kwargs.pop("sequence")
    if (copies := sequence.size // key.shape[1]) > 1:  # fewer key/value heads than workers: each gets a copy of its own
        key, value = (x.repeat_interleave(copies, dim=1) for x in (key, value))
    query, key, value = sequence.to_heads(query, key, value)
    output, _ = packed_attention(module, query, key, value, attention_mask, **kwargs)
    return sequence.to_slices(output), None


def require_shareable(config: PretrainedConfig, size: int) -> None:
    """Raises ModelError when `size` workers cannot share this model's attention heads, or its positions."""
    config = config.get_text_config()
    setting = f"zero.sequence_parallel={size}"
    heads = config.num_attention_heads
    key_heads = getattr(config, "num_key_value_heads", None) or heads
    if heads % size:
        raise ModelError(f"{setting} must divide the model's {heads} attention heads")
    if key_heads % size and size % key_heads:
        raise ModelError(f"{setting} must divide the model's {key_heads} key/value heads, or be a multiple of them")
    if found := LENGTH_DEPENDENT & _rope_types(config):
        raise ModelError(
            f"{setting}: the model's rotary frequencies depend on the length of the row (rope_type={found.pop()}), "
            "which no worker sees whole: set it to 1"
        )


def _rope_types(config: PretrainedConfig) -> set[str]:
    """The kinds of rotary positions; some models have one per kind of layer."""
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [rope, *(value for value in rope.values() if isinstance(value, dict))]
    return {kind["rope_type"] for kind in kinds if "rope_type" in kind}
