"""Where the reference log-probabilities come from: one small class per source, all with `logps(batch)`."""

from typing import Any

import torch
from torch import Tensor, nn

from dpo.data.batch import Batch


class NoReference:
    """For losses that compare nothing."""

    def logps(self, batch: Batch) -> None:
        return None


class CachedReference:
    """Computed before training; the batch carries the values."""

    def logps(self, batch: Batch) -> Tensor:
        assert batch.reference is not None
        return batch.reference


class FrozenReference:
    """A model of its own that never learns, whole or sharded by its own engine; one forward per micro-batch."""

    def __init__(self, scorer: nn.Module):
        scorer.eval()
        self.scorer = scorer

    @torch.no_grad()
    def logps(self, batch: Batch) -> Tensor:
        return self.scorer(batch)


class AdapterOffReference:
    """The policy itself with its adapter switched off: the base model, at no memory."""

    def __init__(self, scorer: nn.Module, adapted: Any):
        self.scorer, self.adapted = scorer, adapted  # `adapted` is peft's model around the same weights

    @torch.no_grad()
    def logps(self, batch: Batch) -> Tensor:
        training = self.scorer.training
        self.scorer.eval()
        try:
            with self.adapted.disable_adapter():
                return self.scorer(batch)
        finally:
            self.scorer.train(training)
