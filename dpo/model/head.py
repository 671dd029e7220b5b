"""The scoring head: hidden states and targets in, log-probabilities of the targets out.

The output projection of a language model makes [tokens, vocabulary] logits, for a 152k vocabulary and 8k tokens 5 GB in
float32. Here they exist for one chunk of tokens at a time, in forward and again in backward. It must happen in the
forward of the module that owns the weight: under ZeRO-3 the weight is whole only there.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# 2**26 logits: 256 MiB in float32, and with a 152k vocabulary still 440 rows, enough to keep a matrix unit busy.
CHUNK_LOGITS = 2**26


class ScoringHead(nn.Linear):
    """An output projection that also scores. It takes the place of a model's `lm_head`, with the same parameters."""

    softcap: float | None
    scale: float

    @classmethod
    def take_over(cls, linear: nn.Linear, *, softcap: float | None = None, scale: float = 1.0) -> "ScoringHead":
        """Turn `linear` into a scoring head in place, so that parameter names and tied weights stay as they are."""
        linear.__class__ = cls
        assert isinstance(linear, cls)
        linear.softcap, linear.scale = softcap, scale
        return linear

    def forward(self, hidden: Tensor, targets: Tensor | None = None) -> Tensor:
        """Without targets the plain projection. hidden [S, D], targets [S] -> log-probabilities [S], float32."""
        if targets is None:
            return super().forward(hidden)
        return _ChunkedLogProb.apply(hidden, self.weight, self.bias, targets, self._log_prob)

    def _log_prob(self, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
        logits = F.linear(hidden, weight, bias).float() * self.scale
        if self.softcap is not None:
            logits = self.softcap * torch.tanh(logits / self.softcap)
        return -F.cross_entropy(logits, targets, reduction="none")


class _ChunkedLogProb(torch.autograd.Function):
    """Applies `log_prob` chunk by chunk and recomputes each chunk in backward."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, log_prob: Callable[..., Tensor]
    ) -> Tensor:
        ctx.save_for_backward(hidden, weight, bias, targets)
        ctx.log_prob = log_prob
        chunks = zip(*_split(weight, hidden, targets), strict=True)
        return torch.cat([log_prob(h, weight, bias, t) for h, t in chunks])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets = ctx.saved_tensors
        needed = [ctx.needs_input_grad[0], ctx.needs_input_grad[1], bias is not None and ctx.needs_input_grad[2]]
        grad_hidden = torch.empty_like(hidden) if needed[0] else None
        # Summed in float32: with bf16 sums every chunk would round the whole weight's gradient again.
        sums = [
            torch.zeros_like(p, dtype=torch.float32) if on else None
            for p, on in zip((weight, bias), needed[1:], strict=True)
        ]
        start = 0
        for h, t, g in zip(*_split(weight, hidden, targets, grads[0]), strict=True):
            inputs = [
                x.detach().requires_grad_(on) if x is not None else None
                for x, on in zip((h, weight, bias), needed, strict=True)
            ]
            with torch.enable_grad():
                log_prob = ctx.log_prob(*inputs, t)
            wanted = [x for x, on in zip(inputs, needed, strict=True) if on and x is not None]
            found = iter(torch.autograd.grad(log_prob, wanted, g))
            if grad_hidden is not None:
                grad_hidden[start : start + len(h)] = next(found)
            for total in sums:
                if total is not None:
                    total += next(found)
            start += len(h)
        grad_weight, grad_bias = (s.to(weight.dtype) if s is not None else None for s in sums)
        return grad_hidden, grad_weight, grad_bias, None, None


def _split(weight: Tensor, *tensors: Tensor) -> list[tuple[Tensor, ...]]:
    rows = max(1, CHUNK_LOGITS // weight.shape[0])
    return [tensor.split(rows) for tensor in tensors]
