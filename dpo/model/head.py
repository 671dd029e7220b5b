"""The scoring head: hidden states and targets in, log-probabilities of the targets out.

The output projection of a language model makes [tokens, vocabulary] logits, for a 152k vocabulary and 8k tokens 5 GB in
float32. Here they exist for one slice of the vocabulary at a time, in forward and again in backward. It must happen in
the forward of the module that owns the weight: under ZeRO-3 the weight is whole only there.

Why no library's: torch.nn.functional.linear_cross_entropy (2.13) and liger-kernel's (0.8.5) are exact and defer the
gradient to backward for reduction="none", as DPO needs, but both chunk over tokens: every chunk reads the whole weight
and adds to its whole gradient. On 2 CPU cores torch's took 3 times as long as this for [S, D, V] = [2000, 512, 32000]
and 20 times for [2000, 128, 152000]. Both save a detached weight, which under ZeRO-3 keeps the gathered one alive
between forward and backward. torch's rounds log-probabilities of bf16 inputs to bf16 and knows no soft cap; liger's
rounds the logits to bf16 and needs a GPU.

Shape letters: S scored tokens, D hidden size, V vocabulary, C words of one slice of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

# Logits of one slice: 16 MiB in float32 on a CPU, beside activations of some hundred; 256 MiB elsewhere, where slices
# of [8192, 8192] keep the matrix units busy.
SLICE_LOGITS = {"cpu": 2**22}
SLICE_LOGITS_ELSEWHERE = 2**26
NARROWEST = 256  # words of a slice, however many tokens: 1 KiB a token, less than its hidden state


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

    def forward(self, hidden: Tensor, targets: Tensor | None = None, aligned: bool = False) -> Tensor:
        """Without targets the plain projection. hidden [S, D], targets [S] -> log-probabilities [S], float32.

        `aligned`: [2, S], under them how likely each token is among all that could have stood there, log p(target) -
        log sum_v p(v)^2, without a gradient.
        """
        if targets is None:
            return super().forward(hidden)
        logps, alignment = _LogProb.apply(hidden, self.weight, self.bias, targets, self.softcap, self.scale, aligned)
        return torch.stack([logps, alignment]) if aligned else logps


class _LogProb(torch.autograd.Function):
    """log softmax(logits)[target] by a running logsumexp over slices of the vocabulary; backward computes the slices
    again. A slice holds all tokens, so its part of the weight's gradient is one product, rounded once."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        softcap: float | None,
        scale: float,
        aligned: bool,
    ) -> tuple[Tensor, Tensor | None]:
        logits = _Logits(hidden=hidden, weight=weight, bias=bias, targets=targets, softcap=softcap, scale=scale)
        total = torch.full_like(targets, -torch.inf, dtype=torch.float32)
        squares = torch.full_like(total, -torch.inf)  # log sum_v exp(2 logit)
        found = torch.zeros_like(total)
        for part in logits.slices():
            found = torch.where(part.inside, part.values.gather(1, part.column)[:, 0], found)
            top = part.values.amax(1)
            here = part.values.sub_(top[:, None]).exp_().sum(1).log_().add_(top)
            total = torch.logaddexp(total, here)
            if aligned:
                squares = torch.logaddexp(squares, part.values.square_().sum(1).log_().add_(2 * top))
        ctx.save_for_backward(hidden, weight, bias, targets, total)
        ctx.options = softcap, scale
        if not aligned:
            return found - total, None
        alignment = found + total - squares  # (found - total) - (squares - 2 total)
        ctx.mark_non_differentiable(alignment)
        return found - total, alignment

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, total = ctx.saved_tensors
        softcap, scale = ctx.options
        logits = _Logits(hidden=hidden, weight=weight, bias=bias, targets=targets, softcap=softcap, scale=scale)
        of_hidden, of_weight, of_bias = ctx.needs_input_grad[:3]
        grad_hidden = torch.zeros_like(hidden, dtype=torch.float32) if of_hidden else None
        grad_weight = torch.empty_like(weight) if of_weight else None
        grad_bias = torch.empty_like(bias) if of_bias and bias is not None else None
        for part in logits.slices():
            slope = logits.slope(part.values)
            change = part.values.sub_(total[:, None]).exp_()  # the softmax
            change.scatter_add_(1, part.column, -part.inside[:, None].float())
            change.mul_(-scale * grads[0][:, None])
            if slope is not None:
                change.mul_(slope)
            if grad_bias is not None:
                grad_bias[part.words] = change.sum(0)
            change = change.to(logits.hidden.dtype)
            if grad_hidden is not None:
                _add_product(grad_hidden, change, part.weight)
            if grad_weight is not None:
                grad_weight[part.words] = change.T @ logits.hidden
        return (
            grad_hidden if grad_hidden is None else grad_hidden.to(hidden.dtype),
            grad_weight,
            grad_bias,
            None,
            None,
            None,
            None,
        )


@dataclass(kw_only=True, slots=True)
class _Slice:
    words: slice
    weight: Tensor  # [C, D]
    values: Tensor  # [S, C] float32 logits, to be overwritten
    inside: Tensor  # [S] bool, whether the target is one of `words`
    column: Tensor  # [S, 1] int64, its column in `values`; any when it is not


@dataclass(kw_only=True, slots=True)
class _Logits:
    """What the logits are made of, and the logits slice by slice, all in the same memory."""

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None
    targets: Tensor
    softcap: float | None
    scale: float

    def __post_init__(self) -> None:
        self.hidden = _operand(self.hidden)

    def slices(self) -> Iterator[_Slice]:
        n_tokens, n_words = len(self.targets), len(self.weight)
        budget = SLICE_LOGITS.get(self.weight.device.type, SLICE_LOGITS_ELSEWHERE)
        width = min(n_words, max(NARROWEST, budget // max(1, n_tokens)))
        memory = torch.empty(n_tokens * width, dtype=torch.float32, device=self.weight.device)
        for start in range(0, n_words, width):
            words = slice(start, min(start + width, n_words))
            n = words.stop - start
            weight = _operand(self.weight[words])
            values = self._fill(memory[: n_tokens * n].view(n_tokens, n), weight, words)
            local = self.targets - start
            yield _Slice(
                words=words,
                weight=weight,
                values=values,
                inside=(local >= 0) & (local < n),
                column=local.clamp(0, n - 1)[:, None],
            )

    def _fill(self, values: Tensor, weight: Tensor, words: slice) -> Tensor:
        if self.bias is not None:
            values.copy_(self.bias[words])
        _add_product(values, self.hidden, weight.T, keep=self.bias is not None)
        if self.scale != 1.0:
            values.mul_(self.scale)
        if self.softcap is not None:
            values.div_(self.softcap).tanh_().mul_(self.softcap)
        return values

    def slope(self, values: Tensor) -> Tensor | None:
        """Derivative of the soft cap at capped `values`: 1 - tanh^2; None without one."""
        return None if self.softcap is None else 1 - (values / self.softcap) ** 2


def _operand(matrix: Tensor) -> Tensor:
    """As it is multiplied: half precision where the device adds up in float32, else float32."""
    return matrix if matrix.is_cuda else matrix.float()


def _add_product(total: Tensor, a: Tensor, b: Tensor, keep: bool = True) -> None:
    """total += a @ b, in float32; without `keep`, what `total` held is forgotten."""
    beta = 1.0 if keep else 0.0
    if a.dtype == torch.float32:
        total.addmm_(a, b, beta=beta)
    else:
        torch.addmm(total, a, b, beta=beta, out_dtype=torch.float32, out=total)
