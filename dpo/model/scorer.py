"""Batch -> summed log-probability of every response: the module that the distributed engines wrap."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from dpo.data.batch import Batch
from dpo.distributed.sequence import SequenceGroup
from dpo.errors import ModelError
from dpo.model import attention, ulysses
from dpo.model.activations import Offload
from dpo.model.compiled import uncompiled
from dpo.model.head import ScoringHead


class Scorer(nn.Module):
    """A causal language model that scores responses. Its only submodule is the Hugging Face model itself.

    With `sequence`, the workers that share a row, batches are slices and results are those of the whole row: nobody
    beyond the scorer notices.
    """

    def __init__(
        self, causal_lm: PreTrainedModel, layout: str, sequence: SequenceGroup | None = None, offload: bool = False
    ):
        super().__init__()
        head = causal_lm.get_output_embeddings()
        if not isinstance(head, nn.Linear):
            raise ModelError(f"{type(causal_lm).__name__} has no linear output head that could be scored with.")
        config = causal_lm.config.get_text_config()
        ScoringHead.take_over(
            head,
            softcap=getattr(config, "final_logit_softcapping", None),
            scale=_logit_scale(config),
        )
        self.causal_lm = causal_lm
        self.layout, self.sequence = layout, sequence
        self.offload = offload  # activations wait for backward in the host's memory
        self._own_attention = causal_lm.config._attn_implementation
        self._use_layout_attention()

    def _use_layout_attention(self) -> None:
        if self.layout == "packed":
            self.causal_lm.set_attn_implementation(ulysses.NAME if self.sequence else attention.NAME)

    @contextmanager
    def plain_model(self) -> Iterator[PreTrainedModel]:
        """The model as transformers knows it, in eval mode: for generation and for its own logits."""
        training = self.causal_lm.training
        self.causal_lm.eval()
        self.causal_lm.set_attn_implementation(self._own_attention)
        try:
            with uncompiled(self.causal_lm):
                yield self.causal_lm
        finally:
            self.causal_lm.train(training)
            self._use_layout_attention()

    def forward(self, batch: Batch, aligned: bool = False) -> Tensor:
        """Summed log-probability of every response in its context: [R] float32, natural logarithm. `aligned`: [2, R],
        under them the sums of what `ScoringHead` gives."""
        if batch.segments is not None:
            inputs: dict[str, Any] = {"position_ids": batch.positions, "segments": batch.segments}
            if self.sequence is not None:
                inputs["sequence"] = self.sequence
        else:  # padded on the right: positions are the model's own, and models without positions work too
            inputs = {"attention_mask": batch.mask}
        with Offload() if self.offload else nullcontext():
            hidden = self.causal_lm.base_model(input_ids=batch.ids, use_cache=False, **inputs).last_hidden_state
        scored = hidden.flatten(0, 1).index_select(0, batch.scored)
        per_token = self.causal_lm.get_output_embeddings()(scored, batch.targets, aligned)
        if batch.again is not None:
            per_token = torch.cat([per_token, per_token[..., batch.again]], -1)
        sums = per_token.new_zeros(*per_token.shape[:-1], len(batch.tokens)).index_add(-1, batch.response, per_token)
        return sums if self.sequence is None else self.sequence.sum(sums)


def _logit_scale(config: object) -> float:
    """Models whose logits are scaled after the head: Cohere multiplies, Granite divides."""
    if (divisor := getattr(config, "logits_scaling", None)) is not None:
        return 1.0 / divisor
    return getattr(config, "logit_scale", None) or 1.0


def choose_layout(causal_lm: PreTrainedModel, wanted: str) -> tuple[str, str | None]:
    """The layout to use and, when it is not the one wanted, why."""
    if wanted == "packed" and (reason := attention.unsupported(causal_lm)):
        return "padded", reason
    return wanted, None


@torch.no_grad()
def own_logps(causal_lm: PreTrainedModel, ids: Tensor, n_prompt: int) -> Tensor:
    """Log-probability of ids[n_prompt:] by the model's own forward and logits: scalar, the yardstick for a Scorer.

    ids [T] holds the prompt and the response behind it.
    """
    logits = causal_lm(input_ids=ids[None, :-1], use_cache=False).logits[0, n_prompt - 1 :]
    return logits.float().log_softmax(-1).gather(1, ids[n_prompt:, None]).sum()
