"""Before the first step: are the first numbers what they must be? A minute of wiring faults costs no GPU hours."""

from dataclasses import dataclass, replace

import torch

from dpo.data.batch import Batch, PromptGroup
from dpo.data.rows import MicroBatches
from dpo.distributed.engine import Engine
from dpo.distributed.world import World
from dpo.errors import SelfCheckError
from dpo.losses.loss import Loss
from dpo.metrics import StepStats
from dpo.model.reference import CachedReference
from dpo.model.scorer import Scorer, own_logps
from dpo.step import Reference, look, step_shares

# |first loss - closed form|, relative where that is above one. The same weights in the same type through the same
# kernels give zero; with model.compile only the policy is compiled under DeepSpeed (1e-6 off in the demo), and half
# precision leaves room for kernels that are not deterministic.
FIRST_LOSS = {"fp32": 1e-5, "bf16": 1e-2, "fp16": 1e-2}
# Mean difference per token between our log-probabilities and those of the model's own forward: other kernels, other
# order of summation. The same holds for kept reference values, computed in rows of other shapes: per token 1e-6 in
# float32 and 1e-2 in bf16, and adding up 4000 tokens in float32 moves the sum by 1e-6 of itself, 2e-6 per token.
OWN_FORWARD = {"fp32": 1e-4, "bf16": 5e-2, "fp16": 2e-2}
# Tokens of a prompt, and of an answer, that the model's own forward is compared on. It makes whole logits, on every
# worker: 4096 rows of a 152k vocabulary are 2.5 GB in float32; those of a row of 64k, shared or not, would be 40.
COMPARED = 2048


@dataclass(kw_only=True, slots=True)
class SelfCheck:
    engine: Engine
    scorer: Scorer
    reference: Reference
    loss: Loss
    micro: MicroBatches
    world: World

    def run(self, first: Batch, sample: PromptGroup, same_weights: bool) -> str:
        """Check `first` (this worker's first micro-batch) and `sample` (the same on all workers). Returns a line for
        the log.

        Raises:
            SelfCheckError: with a diagnosis.
        """
        self.engine.scorer.eval()
        difference = self._against_own_forward(sample)
        loss, paired = self._first_loss(first)
        self.engine.scorer.train()
        expected = self.loss.first if same_weights and paired else None
        if same_weights and isinstance(self.reference, CachedReference):
            kept = self._against_kept(first.to(self.world.device))
            value = f"first loss {loss:.6f}; kept reference within {kept:.1e} per token of the policy's start"
            return f"self-check: {value}, log-probabilities within {difference:.1e} of the model's own forward"
        if expected is not None and not abs(loss - expected) <= FIRST_LOSS[self.world.precision] * max(1, expected):
            raise SelfCheckError(
                f"self-check: the first loss is {loss:.7f}, but policy and reference start with the same weights, so "
                f"it must be {expected:.7f} (within {FIRST_LOSS[self.world.precision]:g}). The reference is not the "
                "policy's start: check reference.path, or a model whose outputs are random in eval mode. "
                "guard.self_check=false trains all the same."
            )
        value = f"first loss {loss:.6f}" + (f" (expected {expected:.6f})" if expected is not None else "")
        return f"self-check: {value}; log-probabilities within {difference:.1e} per token of the model's own forward"

    def _first_loss(self, batch: Batch) -> tuple[float, bool]:
        """Over the first micro-batches of all workers, and whether all their rows are pairs: only of these is the value
        known. kto's baseline is left out: zero while policy = reference."""
        stats = StepStats(self.loss, self.world.device)
        logps = look(self.engine, self.reference, batch.to(self.world.device))
        shares = step_shares([logps], self.loss, self.world, learning=False)
        stats.add(batch.counts, logps, self.loss.values(logps, shares[0] if shares else None))
        self.world.data_sum(stats.sums)
        loss = stats.record()["loss"]
        if not torch.isfinite(torch.tensor(loss)):
            raise SelfCheckError(
                f"self-check: the first loss is {loss}. The model's weights or its outputs are not finite in "
                f"precision={self.world.precision}: try precision=fp32, and check that the weights were loaded."
            )
        counts = stats.counts()
        return loss, counts["compared"] == counts["pairs"]

    @torch.no_grad()
    def _against_kept(self, batch: Batch) -> float:
        """Mean difference per token of kept values from those of the policy at its start, the largest of all workers.
        The first loss would not show it: errors of many pairs cancel."""
        self.engine.scorer.eval()
        policy = self.engine.forward(batch)
        self.engine.scorer.train()
        kept = self.reference.logps(batch)
        assert kept is not None
        own = (policy - kept).abs() / batch.tokens * (batch.n_pairs > 0)  # a filler has no value
        difference = self.world.gather(own.max()[None]).max().item()
        if not difference <= OWN_FORWARD[self.world.precision]:
            raise SelfCheckError(
                f"self-check: kept reference log-probabilities differ by {difference:.2g} per token from the policy's "
                f"(at most {OWN_FORWARD[self.world.precision]:g}), but both are of the same weights before the first "
                "step. Check reference.path, or remove what is kept: python -m dpo cache ls. "
                "guard.self_check=false trains all the same."
            )
        return difference

    @torch.no_grad()
    def _against_own_forward(self, group: PromptGroup) -> float:
        """Mean difference per token of the layout's log-probabilities from the model's own."""
        group = _shortened(group)
        batch = self.micro.collate([group]).to(self.world.device)
        ours = self.engine.forward(batch)
        with self.scorer.plain_model() as model:
            rows = [torch.tensor(group.prompt_ids + r, device=self.world.device) for r in group.responses]
            own = torch.stack([own_logps(model, row, len(group.prompt_ids)) for row in rows])
        difference = ((ours - own).abs() / batch.tokens).max().item()
        if not difference <= OWN_FORWARD[self.world.precision]:
            cure = "layout=padded" if self.micro.layout == "packed" else "precision=fp32"
            raise SelfCheckError(
                f"self-check: the log-probabilities of {group.sources[0]} differ by {difference:.2g} per token from "
                f"the model's own forward (at most {OWN_FORWARD[self.world.precision]:g}). This architecture computes "
                f"something that the {self.micro.layout} layout or the scoring head does not follow: try {cure}."
            )
        return difference


def _shortened(group: PromptGroup) -> PromptGroup:
    """The end of the prompt and the beginning of each response, all of which the model's own forward scores."""
    return replace(
        group,
        prompt_ids=group.prompt_ids[-COMPARED:],
        responses=[response[:COMPARED] for response in group.responses],
        contexts=[],
    )
