"""Answers of the policy to prompts, as token ids: the likeliest ones, or drawn as the policy's probabilities say."""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from dpo.distributed.world import World
from dpo.model.scorer import Scorer
from dpo.preempt import StopRequest

CHUNK = 32  # prompts generated together on one worker


@dataclass(kw_only=True, slots=True)
class Generator:
    """Spreads prompts over the workers."""

    max_new_tokens: int
    tokenizer: PreTrainedTokenizerBase
    end_of_turn: str
    world: World
    stop: StopRequest

    @property
    def ends(self) -> list[int]:
        """Tokens that end an answer."""
        return sorted({self.tokenizer.eos_token_id, self.tokenizer.convert_tokens_to_ids(self.end_of_turn)})

    def answers(self, scorer: Scorer, prompts: list[list[int]], seeds: list[int] | None = None) -> list[list[int]]:
        """The answer to every prompt with the token that ends it. A collective; equal on every worker.

        seeds: one per prompt, to draw its answer at temperature 1; None: the likeliest token each time. Neither the
        number of workers nor the prompts beside it change what is drawn, beyond the rounding of probabilities.

        Raises:
            Stopped: on request, between two tokens.
        """
        # Each worker answers its share; shares are filled up to equal length, since sharded weights need all.
        share = range(self.world.rank, len(prompts) + self.world.size, self.world.size)
        mine = [i % len(prompts) for i in share][: -(-len(prompts) // self.world.size)]
        found: list[list[int]] = []
        with scorer.plain_model() as model:
            asked = model.register_forward_pre_hook(lambda *_: self.stop.check())
            try:
                for start in range(0, len(mine), CHUNK):
                    some = mine[start : start + CHUNK]
                    drawn = Draw([seeds[i] for i in some]) if seeds is not None else None
                    found += self._generate(model, [prompts[i] for i in some], drawn)
            finally:
                asked.remove()
        shares = self.world.collect(found)
        return [shares[i % self.world.size][i // self.world.size] for i in range(len(prompts))]

    @torch.no_grad()
    def _generate(self, model: PreTrainedModel, prompts: list[list[int]], drawn: "Draw | None") -> list[list[int]]:
        width = max(len(p) for p in prompts)
        pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.tokenizer.eos_token_id
        ids = torch.tensor([[pad] * (width - len(p)) + p for p in prompts], device=self.world.device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=self.world.device)
        settings = GenerationConfig(
            max_new_tokens=self.max_new_tokens, do_sample=False, eos_token_id=self.ends, pad_token_id=pad
        )
        processors = LogitsProcessorList()
        if drawn:
            processors.append(drawn)
            # What a model's own generation_config.json asks for would draw from other probabilities than its own.
            settings.repetition_penalty, settings.no_repeat_ngram_size = 1.0, 0
        # Synced: equally many forwards on every worker, which sharded weights need, and the request to stop.
        out = model.generate(
            ids,
            attention_mask=mask,
            generation_config=settings,
            logits_processor=processors,
            synced_gpus=self.world.size > 1,
        )
        return [until_end(row[width:].tolist(), self.ends) for row in out]


class Draw(LogitsProcessor):
    """Makes the greedy choice a draw from the softmax: adds noise of a Gumbel distribution, a generator per row (Gumbel
    1954; Maddison et al. 2014, arXiv:1411.0030). `multinomial` would share one generator between the rows."""

    def __init__(self, seeds: list[int]):
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """scores [rows, vocabulary]: logits."""
        drawn = [torch.empty(scores.shape[1]).exponential_(generator=own) for own in self.generators]
        noise = -torch.stack(drawn).clamp(min=torch.finfo(torch.float32).tiny).log()
        return scores.float() + noise.to(scores.device)


def until_end(ids: list[int], ends: list[int]) -> list[int]:
    """Up to the first token that ends an answer, included; all where there is none."""
    return next((ids[: i + 1] for i, token in enumerate(ids) if token in ends), ids)
