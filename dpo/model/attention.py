"""Attention over a packed row: every response attends to its own prompt and to itself, causally, and to nothing else.

Registered through transformers' attention interface, so that it works for every architecture that uses it. Exact: the
same keys and values enter each query's softmax as in the two-row computation.

Shape letters: T tokens of the row, H query heads, J key/value heads (grouped-query attention), D head size.
"""

import inspect
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, PretrainedConfig, PreTrainedModel

from dpo.data.batch import Segments

NAME = "prompt_once"
PLAIN_LAYERS = {"full_attention", "sliding_attention"}


def register() -> None:
    """Make the function known to transformers under `NAME`. Calling it again changes nothing."""
    AttentionInterface.register(NAME, packed_attention)


def unsupported(model: PreTrainedModel) -> str | None:
    """Why `model` cannot use the packed layout, or None when it can."""
    config = model.config.get_text_config()
    kind = type(model).__name__
    if getattr(model, "_is_stateful", False):
        return f"{kind} carries a state along the row (state-space or recurrent layers)"
    if not getattr(model, "_supports_attention_backend", False):
        return f"{kind} does not go through the attention interface of transformers"
    if other := sorted(set(getattr(config, "layer_types", None) or []) - PLAIN_LAYERS):
        return f"{kind} has layers that are not plain attention ({', '.join(other)})"
    return _unsupported_scores(config)


def _unsupported_scores(config: PretrainedConfig) -> str | None:
    if getattr(config, "attn_logit_softcapping", None) is not None:
        return "its attention scores are soft-capped (attn_logit_softcapping)"
    if config.model_type == "gpt_oss":
        return "its attention has sinks"
    if getattr(config, "alibi", False) or getattr(config, "use_alibi", False):
        return "its attention scores depend on the distance in the row (ALiBi)"
    return None


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """query [1, H, T, D], key and value [1, J, T, D] -> output [1, T, H, D].

    `segments` comes along from the model's forward; `sliding_window` (tokens) from layers that have one.
    """
    if kwargs.get("s_aux") is not None or kwargs.get("softcap") is not None:
        raise NotImplementedError("attention sinks and soft-capped scores need layout=padded")
    segments: Segments = kwargs["segments"]
    window: int | None = kwargs.get("sliding_window")
    # varlen_attn is a flash kernel: half precision only, and it has no dropout.
    if query.is_cuda and query.dtype in (torch.bfloat16, torch.float16) and dropout == 0.0:
        return _one_call(query, key, value, segments, scaling, window), None
    return _per_segment(query, key, value, segments, (scaling, dropout, window)), None


def _one_call(
    query: Tensor, key: Tensor, value: Tensor, segments: Segments, scaling: float | None, window: int | None
) -> Tensor:
    """All segments in one variable-length call; the causal mask is aligned to the end of the keys."""
    from torch.nn.attention.varlen import varlen_attn  # loads CUDA kernels' bindings

    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))  # [T, heads, D]
    options: dict[str, Any] = {"window_size": (-1 if window is None else window - 1, 0), "scale": scaling}
    if k.shape[1] != q.shape[1]:
        if "enable_gqa" in inspect.signature(varlen_attn).parameters:
            options["enable_gqa"] = True
        else:  # torch 2.11
            k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    out = varlen_attn(
        q.contiguous(),
        k.index_select(0, segments.key_index),
        v.index_select(0, segments.key_index),
        segments.query_offsets,
        segments.key_offsets,
        segments.max_query,
        segments.max_key,
        **options,
    )
    assert isinstance(out, Tensor)  # a tuple only when asked for more than the output
    return out[None]


@torch.compiler.disable  # a loop over segments: every number of them would be a graph of its own
def _per_segment(
    query: Tensor, key: Tensor, value: Tensor, segments: Segments, options: tuple[float | None, float, int | None]
) -> Tensor:
    """One scaled_dot_product_attention per segment: any device, any dtype."""
    scaling, dropout, window = options
    # Split, not sliced: the gradient of every slice would be a row full of zeros, to be added up.
    queries, keys, values = (x.split(segments.lengths, dim=2) for x in (query, key, value))
    prompts = {start: i for i, (start, *_) in enumerate(segments.bounds)}
    outputs = []
    for index, (start, end, prompt_start, prompt_end) in enumerate(segments.bounds):
        k, v = keys[index], values[index]
        if prompt_end > prompt_start:
            prompt = prompts[prompt_start]
            k, v = torch.cat([keys[prompt], k], dim=2), torch.cat([values[prompt], v], dim=2)
        causal = prompt_end == prompt_start and (window is None or window >= end - start)
        mask = None if causal else _mask(segments, index, window, query)
        out = F.scaled_dot_product_attention(
            queries[index],
            k,
            v,
            attn_mask=mask,
            dropout_p=dropout,
            is_causal=causal,
            scale=scaling,
            enable_gqa=key.shape[1] != query.shape[1],
        )
        outputs.append(out)
    return torch.cat(outputs, dim=2).transpose(1, 2)


def _mask(segments: Segments, index: int, window: int | None, query: Tensor) -> Tensor:
    """[queries, keys], 0 where a query may look, else -inf: causal, aligned to the last key, within the window.

    Of a bool mask every layer would make such numbers again and keep them for backward: with two answers of 1k to a
    prompt of 14k that is 126 MiB a layer (4 layers, hidden size 256: a peak of 2206 MiB instead of 1828).
    """
    if (index, window) not in segments.masks:
        start, end, prompt_start, prompt_end = segments.bounds[index]
        prompt = prompt_end - prompt_start
        distance = torch.arange(prompt, prompt + end - start, device=query.device)[:, None]
        distance = distance - torch.arange(prompt + end - start, device=query.device)[None, :]
        seen = (distance >= 0) & (distance < (window or distance.numel() + 1))
        segments.masks[index, window] = query.new_zeros(seen.shape).masked_fill(~seen, float("-inf"))
    return segments.masks[index, window]
