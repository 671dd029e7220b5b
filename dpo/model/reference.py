"""Where the reference log-probabilities come from: one small class per source, all with `logps(batch)`."""

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from dpo.data.batch import Batch
from dpo.distributed.engine import by_model_name
from dpo.model.adapter import add_snapshot, snapshot_active, snapshot_parameters


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

    def weights(self) -> dict[str, nn.Parameter]:
        """By the names that the policy's have."""
        return by_model_name(dict(self.scorer.named_parameters()))

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
            with self._as_reference():
                return self.scorer(batch)
        finally:
            self.scorer.train(training)

    def _as_reference(self) -> AbstractContextManager[None]:
        return self.adapted.disable_adapter()


class SnapshotReference(AdapterOffReference):
    """The policy itself with a frozen copy of its adapter, at the memory of an adapter."""

    def __init__(self, scorer: nn.Module, adapted: Any):
        super().__init__(scorer, adapted)
        add_snapshot(adapted)

    def weights(self) -> dict[str, nn.Parameter]:
        """Those of the copy, by the names that the policy's have."""
        return by_model_name(snapshot_parameters(self.scorer))

    def _as_reference(self) -> AbstractContextManager[None]:
        return snapshot_active(self.adapted)
