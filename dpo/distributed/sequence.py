"""Workers that share one row: DeepSpeed-Ulysses sequence parallelism (Jacobs et al. 2023, arXiv:2309.14509).

Each holds a slice of the row's tokens and computes everything that concerns one token alone. Attention looks along the
row: for it the workers exchange, so that each holds all tokens of a share of the heads, and exchange back afterwards.

Shape letters: n workers of the group, T tokens of the row, H heads, D head size, R responses.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class SequenceGroup:
    """This worker's place among those that share its row. Every method is a collective of the group."""

    def __init__(self, group: dist.ProcessGroup):
        self.group, self.rank, self.size = group, dist.get_rank(group), dist.get_world_size(group)

    def to_heads(self, *tensors: Tensor) -> list[Tensor]:
        """Each [1, H, T/n, D] -> [1, H/n, T, D]. Query, key and value travel in one exchange; H and D may differ."""
        parts = [x[0].unflatten(0, (self.size, -1)).transpose(1, 2).flatten(2) for x in tensors]  # [n, T/n, H/n * D]
        row = _Exchange.apply(torch.cat(parts, dim=2), self.group).flatten(0, 1)
        received = row.split([part.shape[2] for part in parts], dim=1)  # each [T, H/n * D]
        return [
            part.unflatten(1, (-1, x.shape[3])).transpose(0, 1)[None] for part, x in zip(received, tensors, strict=True)
        ]

    def to_slices(self, output: Tensor) -> Tensor:
        """[1, T, H/n, D] -> [1, T/n, H, D], as transformers wants the output of an attention function."""
        received = _Exchange.apply(output[0].unflatten(0, (self.size, -1)), self.group)  # [n, T/n, H/n, D]
        return received.transpose(0, 1).flatten(1, 2)[None]

    def sum(self, partial: Tensor) -> Tensor:
        """[R] of every worker -> their sum on all. Backward gives the sum's gradient to each worker's own part.

        The parts of the gradient that come of it add up over all workers of the job like those of different rows.
        """
        return _Sum.apply(partial, self.group)


class _Exchange(torch.autograd.Function):
    """[n, ...]: entry i goes to worker i, entry j comes from worker j. Backward is the same exchange.

    torch's own differentiable ones are deprecated (`torch.distributed.nn`) or private (`_functional_collectives`).
    """

    @staticmethod
    def forward(ctx: Any, sent: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return _exchange(sent, group)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _exchange(grads[0], ctx.group), None


def _exchange(sent: Tensor, group: dist.ProcessGroup) -> Tensor:
    sent = sent.contiguous()
    received = torch.empty_like(sent)
    dist.all_to_all_single(received, sent, group=group)
    return received


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, partial: Tensor, group: dist.ProcessGroup) -> Tensor:
        total = partial.clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None
