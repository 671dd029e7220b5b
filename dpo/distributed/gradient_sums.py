"""Gradients of whole weights summed over the workers, bucket by bucket while backward still computes the rest."""

from functools import partial

import torch
from torch import Tensor, nn

from dpo.distributed.world import Pending, World

BUCKET = 2**23  # elements summed in one collective: 32 MiB in float32, past the sizes where latency counts


class GradientSums:
    """Buckets are fixed and go out in one order, the reverse of the parameters', on every worker: a parameter that a
    worker's rows did not touch holds its bucket back to the end of backward, but no worker waits for another order.
    """

    def __init__(self, parameters: list[nn.Parameter], masters: list[nn.Parameter], world: World):
        """`masters` hold the gradients; they are the parameters themselves where those are float32."""
        self._world, self._masters = world, masters
        self._buckets = _buckets(masters)
        self._missing: list[set[int]] = []  # per bucket, parameters whose gradient is still to come
        self._sent: list[tuple[Tensor, Pending]] = []
        for bucket in self._buckets:
            for i in bucket:
                parameters[i].register_post_accumulate_grad_hook(partial(self._arrived, i))
        self._place = {i: b for b, bucket in enumerate(self._buckets) for i in bucket}

    def begin(self) -> None:
        """Call before the last backward of a step: from here on gradients are complete when they arrive."""
        self._missing = [set(bucket) for bucket in self._buckets]

    def finish(self) -> None:
        """Send what is left, wait for all, and put the sums where the gradients were. A missing one counts as zero."""
        while len(self._sent) < len(self._buckets):
            self._send()
        for bucket, (flat, pending) in zip(self._buckets, self._sent, strict=True):
            pending.wait()
            gradients = [self._gradient(i) for i in bucket]
            for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(part.view_as(gradient))
        self._missing, self._sent = [], []

    def _arrived(self, index: int, _: Tensor) -> None:
        if not self._missing:
            return
        self._missing[self._place[index]].discard(index)
        while len(self._sent) < len(self._buckets) and not self._missing[len(self._sent)]:
            self._send()

    def _send(self) -> None:
        bucket = self._buckets[len(self._sent)]
        flat = torch.cat([self._gradient(i).flatten() for i in bucket])
        self._sent.append((flat, self._world.start_sum(flat)))

    def _gradient(self, index: int) -> Tensor:
        master = self._masters[index]
        if master.grad is None:
            master.grad = torch.zeros_like(master)
        return master.grad


def _buckets(masters: list[nn.Parameter]) -> list[list[int]]:
    """Indices of parameters, last first: backward reaches the last layers first."""
    buckets: list[list[int]] = [[]]
    size = 0
    for i in reversed(range(len(masters))):
        if size >= BUCKET:
            buckets.append([])
            size = 0
        buckets[-1].append(i)
        size += masters[i].numel()
    return buckets
