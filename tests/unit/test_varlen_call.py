"""The one-call attention of GPUs, held to the segment-by-segment path: on a CPU with a plain stand-in for the kernel,
on a GPU with the kernel itself."""

import pytest
import torch
from torch import Tensor
from torch.nn.attention import varlen

from dpo.data.batch import PromptGroup, Segments
from dpo.data.collate import collate_packed
from dpo.model import attention

HEADS, KV_HEADS, SIZE = 4, 2, 16


def segments() -> tuple[Segments, int]:
    groups = [
        PromptGroup(
            prompt_ids=[1] * 13, responses=[[1] * 7, [1] * 9, [1]], pairs=[(0, 1)], pair_ids=["a"], sources=[""]
        ),
        PromptGroup(prompt_ids=[1] * 20, responses=[[1] * 12, [1] * 3], pairs=[(0, 1)], pair_ids=["b"], sources=[""]),
    ]
    batch = collate_packed(groups)
    assert batch.segments is not None
    return batch.segments, batch.ids.shape[1]


def plain_varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
) -> Tensor:
    """What the kernel documents: per sequence, causal aligned to the last key, `window_size[0]` keys to the left."""
    assert enable_gqa and window_size[1] == 0
    key, value = (x.repeat_interleave(HEADS // KV_HEADS, dim=1) for x in (key, value))
    out = []
    for q0, q1, k0, k1 in zip(cu_seq_q, cu_seq_q[1:], cu_seq_k, cu_seq_k[1:], strict=False):
        assert q1 - q0 <= max_q and k1 - k0 <= max_k
        scores = torch.einsum("qhd,khd->hqk", query[q0:q1], key[k0:k1]) * (scale or SIZE**-0.5)
        distance = torch.arange(k1 - k0 - (q1 - q0), k1 - k0)[:, None] - torch.arange(k1 - k0)[None]
        hidden = (distance < 0) | ((distance > window_size[0]) if window_size[0] >= 0 else False)
        weights = scores.masked_fill(hidden, -torch.inf).softmax(-1)
        out.append(torch.einsum("hqk,khd->qhd", weights, value[k0:k1]))
    return torch.cat(out)


def inputs(tokens: int, **options: object) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, HEADS, tokens, SIZE), (1, KV_HEADS, tokens, SIZE), (1, KV_HEADS, tokens, SIZE)]
    q, k, v = (torch.randn(*shape, generator=generator).to(**options) for shape in shapes)
    return q, k, v


@pytest.mark.parametrize("window", [None, 1, 5, 64])
def test_the_arguments_of_the_one_call_describe_the_same_attention(
    monkeypatch: pytest.MonkeyPatch, window: int | None
) -> None:
    table, tokens = segments()
    q, k, v = inputs(tokens)
    monkeypatch.setattr(varlen, "varlen_attn", plain_varlen)
    one = attention._one_call(q, k, v, table, 0.3, window)
    each = attention._per_segment(q, k, v, table, (0.3, 0.0, window))
    torch.testing.assert_close(one, each, rtol=1e-5, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("window", [None, 5])
def test_the_kernel_agrees_with_the_segments_in_values_and_gradients(window: int | None) -> None:
    table, tokens = segments()
    device = torch.device("cuda")
    q, k, v = (x.requires_grad_() for x in inputs(tokens, device=device, dtype=torch.bfloat16))
    table = table.to(device)
    results = []
    for out in (
        attention._one_call(q, k, v, table, None, window),
        attention._per_segment(q, k, v, table, (None, 0.0, window)),
    ):
        grads = torch.autograd.grad(out.float().square().sum(), (q, k, v))
        results.append([out, *grads])
    for one, each in zip(*results, strict=True):
        assert (one - each).float().norm() <= 2e-2 * each.float().norm()
