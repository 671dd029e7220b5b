"""What is kept of the forward pass for backward: all of it, or less at the price of computing some again, and where."""

from collections import deque
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from transformers import PreTrainedModel

from dpo.errors import ModelError

OFFLOAD_BYTES = 2**20  # below, a copy costs more in launches than it frees
# By name, since which of them exist depends on the build of torch.
ATTENTION = {
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_fused_attention_overrideable",
    "_varlen_attn",
}


def checkpoint_layers(causal_lm: PreTrainedModel, kind: str) -> None:
    """Keep only the input of every layer (`full`), or with it what the attention computed (`selective`).

    Raises:
        ModelError: this architecture has no layers that transformers can checkpoint.
    """
    options: dict[str, Any] = {"use_reentrant": False}
    if kind == "selective":
        options["context_fn"] = partial(_selective, _attention_width(causal_lm))
    try:
        causal_lm.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
    except ValueError as error:
        raise ModelError(
            f"model.gradient_checkpointing={kind}: {type(causal_lm).__name__} does not support it: set it to none."
        ) from error


def _selective(widest: int) -> tuple[TorchDispatchMode, TorchDispatchMode]:
    """Contexts for the forward of one layer and for its second computation, which share what the first one keeps.

    torch's own create_selective_checkpoint_contexts (2.13) refuses every operation that it did not see in forward, and
    ZeRO-3 gathers and frees weights in between; nor does it allow DeepSpeed's linear to add the bias in place.
    """
    kept: deque[Any] = deque()
    return _Keep(kept, widest), _Replay(kept, widest)


class _Keep(TorchDispatchMode):
    def __init__(self, kept: deque[Any], widest: int):
        super().__init__()
        self.kept, self.widest = kept, widest

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if _worth_keeping(func, args, self.widest):
            # A copy: what comes next may change it in place. The original is gone with the end of the layer.
            self.kept.append(tree_map_only(Tensor, torch.clone, out))
        return out


class _Replay(_Keep):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if _worth_keeping(func, args, self.widest):
            return self.kept.popleft()
        return func(*args, **(kwargs or {}))


def _worth_keeping(op: Any, args: Any, widest: int) -> bool:
    """Attention, and the matrix products that stay within its width: query, key, value and output projections.

    Every projection into or out of D costs the same 2 D operations per number kept, so the choice is one of memory: the
    two wide products of the feed-forward block, computed again, would hold 2 to 4 times what all of these hold. Its
    last product is needed by nobody in backward and is never computed again.
    """
    name = op._schema.name.split("::")[-1]
    if name in ("mm", "addmm"):
        left, right = args[-2:]
        return max(left.shape[1], right.shape[1]) <= widest
    return name in ATTENTION


def _attention_width(causal_lm: PreTrainedModel) -> int:
    """Hidden size, or heads times head size where a model names both and that is more."""
    config = causal_lm.config.get_text_config()
    heads, head_size = (getattr(config, name, None) or 0 for name in ("num_attention_heads", "head_dim"))
    return max(config.hidden_size, heads * head_size)


class Offload(saved_tensors_hooks):
    """Inside, what autograd saves on a GPU waits in pinned host memory for its backward; parameters stay.

    Copies are queued on the stream that computes, so nothing waits on the host. torch.autograd.graph.save_on_cpu would
    wait for every copy, and takes the weights along.
    """

    def __init__(self) -> None:
        super().__init__(_to_host, _back)


def _to_host(tensor: Tensor) -> Tensor | tuple[torch.device, Tensor]:
    if not _worth_moving(tensor):
        return tensor
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
    return tensor.device, host.copy_(tensor, non_blocking=True)


def _back(saved: Tensor | tuple[torch.device, Tensor]) -> Tensor:
    if isinstance(saved, Tensor):
        return saved
    device, host = saved
    return host.to(device, non_blocking=True)


def _worth_moving(tensor: Tensor) -> bool:
    """A product saves its weight transposed: a view whose base is the parameter."""
    weight = isinstance(tensor, nn.Parameter) or isinstance(tensor._base, nn.Parameter)
    return not weight and tensor.numel() * tensor.element_size() >= OFFLOAD_BYTES
