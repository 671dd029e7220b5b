"""How far the policy has gone from the reference where it goes by itself: on answers that it draws."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from dpo.data.batch import PromptGroup
from dpo.data.pair import TokenizedPair
from dpo.evaluate.generate import Generator
from dpo.evaluate.held_out import HeldOut
from dpo.model.scorer import Scorer
from dpo.step import mean_log_ratio


@dataclass(kw_only=True, slots=True)
class SampledDrift:
    """KL(policy || reference) over answers to held-out prompts: E[log pi - log ref] over what pi draws, cut at the
    generator's max_new_tokens. Needs a reference that scores new text, not one whose values are kept."""

    pairs: Sequence[TokenizedPair]  # their prompts; none: not measured
    generator: Generator
    held_out: HeldOut
    seed: int

    def measure(self, scorer: Scorer) -> dict[str, float]:
        """{"kl/samples": nats per answer}: one draw per prompt, the same noise each time it is asked. A collective.

        Raises:
            Stopped: on request, between two tokens or rows.
        """
        if not self.pairs:
            return {}
        engine = self.held_out.engine
        seeds = [zlib.crc32(f"{self.seed} {pair.id}".encode()) for pair in self.pairs]
        answers = self.generator.answers(scorer, [pair.prompt_ids for pair in self.pairs], seeds)
        groups = [
            PromptGroup(
                prompt_ids=pair.prompt_ids, responses=[answer], pairs=[], pair_ids=[pair.id], sources=[pair.source]
            )
            for pair, answer in zip(self.pairs, answers, strict=True)
        ]
        engine.scorer.eval()
        batches = self.held_out.batches(groups)
        ratio = mean_log_ratio(engine, self.held_out.reference, batches, self.held_out.world)
        engine.scorer.train()
        return {"kl/samples": ratio.item()}
