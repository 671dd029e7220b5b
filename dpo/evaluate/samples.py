"""What the policy answers: greedy answers to held-out prompts, before and after training, and a program's verdicts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from dpo.data.pair import TokenizedPair
from dpo.distributed.world import World
from dpo.model.scorer import Scorer
from dpo.preempt import StopRequest

CHUNK = 32  # prompts generated together on one worker


@dataclass(kw_only=True, slots=True)
class Sampler:
    """Answers the same prompts each time it is asked."""

    pairs: list[TokenizedPair]
    n_shown: int  # the first of them, written to samples.jsonl in full
    max_new_tokens: int
    tokenizer: PreTrainedTokenizerBase
    end_of_turn: str
    check: Callable[[str, str], dict[str, bool]] | None  # (prompt, answer) -> verdicts
    world: World
    stop: StopRequest

    def sample(self, scorer: Scorer) -> tuple[list[dict[str, Any]], dict[str, float]]:
        """(records to show, share of answers per verdict). A collective; equal on every worker.

        Raises:
            Stopped: on request, between two tokens.
        """
        if not self.pairs:
            return [], {}
        answers = self._answers(scorer)
        records, verdicts = [], []
        for pair, answer in zip(self.pairs, answers, strict=True):
            prompt = self._text(pair.prompt_ids)
            verdict = self.check(prompt, answer) if self.check else {}
            verdicts.append(verdict)
            records.append(
                {"id": pair.id, "prompt": prompt, "answer": answer, "chosen": self._text(pair.chosen_ids), **verdict}
            )
        shares = {f"samples/{name}": sum(v[name] for v in verdicts) / len(verdicts) for name in verdicts[0]}
        return records[: self.n_shown], shares

    def _answers(self, scorer: Scorer) -> list[str]:
        """Each worker answers its share; shares are filled up to equal length, since sharded weights need all."""
        share = range(self.world.rank, len(self.pairs) + self.world.size, self.world.size)
        count = -(-len(self.pairs) // self.world.size)
        mine = [self.pairs[i % len(self.pairs)].prompt_ids for i in share][:count]
        texts: list[str] = []
        with scorer.plain_model() as model:
            asked = model.register_forward_pre_hook(lambda *_: self.stop.check())
            try:
                for start in range(0, count, CHUNK):
                    texts += self._generate(model, mine[start : start + CHUNK])
            finally:
                asked.remove()
        shares = self.world.collect(texts)
        return [shares[i % self.world.size][i // self.world.size] for i in range(len(self.pairs))]

    @torch.no_grad()
    def _generate(self, model: PreTrainedModel, prompts: list[list[int]]) -> list[str]:
        width = max(len(p) for p in prompts)
        pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.tokenizer.eos_token_id
        ids = torch.tensor([[pad] * (width - len(p)) + p for p in prompts], device=self.world.device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=self.world.device)
        ends = sorted({self.tokenizer.eos_token_id, self.tokenizer.convert_tokens_to_ids(self.end_of_turn)})
        greedy = GenerationConfig(
            max_new_tokens=self.max_new_tokens, do_sample=False, eos_token_id=ends, pad_token_id=pad
        )
        # Synced: equally many forwards on every worker, which sharded weights need, and the request to stop.
        out = model.generate(ids, attention_mask=mask, generation_config=greedy, synced_gpus=self.world.size > 1)
        return [self._text(_until(row[width:].tolist(), ends)) for row in out]

    def _text(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))


def demo_check(prompt: str, answer: str) -> dict[str, bool]:
    """The demo's checker over decoded texts."""
    from dpo.demo.checker import check

    verdict = check(prompt, answer)
    return {"good": verdict.good, "polite": verdict.polite, "right": verdict.right, "well_formed": verdict.well_formed}


CHECKERS = {"none": None, "demo": demo_check}


def _until(ids: list[int], ends: list[int]) -> list[int]:
    return next((ids[:i] for i, token in enumerate(ids) if token in ends), ids)
