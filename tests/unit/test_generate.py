"""Drawn answers follow the policy's own probabilities, whatever stands beside them; kl/samples is what they give."""

import math
import zlib
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from composing import composed, problems
from one_worker import world

from dpo.config.losses import SigmoidLossConfig
from dpo.data.pair import TokenizedPair
from dpo.data.rows import MicroBatches
from dpo.evaluate.drift import SampledDrift
from dpo.evaluate.generate import Draw, Generator, until_end
from dpo.evaluate.held_out import HeldOut
from dpo.losses.loss import Loss
from dpo.model import attention
from dpo.model.scorer import Scorer, own_logps
from dpo.model.tiny import build_tiny_model, build_tiny_tokenizer

pytestmark = pytest.mark.unit

attention.register()


def test_draws_have_the_probabilities_of_the_softmax() -> None:
    """10,000 draws each from two distributions: within four standard deviations."""
    logits = torch.tensor([[0.0, 1.0, -2.0, 3.0], [5.0, 5.0, -math.inf, 4.0]])
    draw, n = Draw([1, 2]), 10_000
    found = torch.stack([draw(torch.zeros(2, 1), logits).argmax(-1) for _ in range(n)])
    for row, probabilities in enumerate(logits.softmax(-1)):
        shares = found[:, row].bincount(minlength=4) / n
        deviation = (probabilities * (1 - probabilities) / n).sqrt()
        assert ((shares - probabilities).abs() <= 4 * deviation).all()


def test_a_row_draws_the_same_whatever_stands_beside_it() -> None:
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    alone, beside = Draw([7]), Draw([5, 7, 6])
    for _ in range(4):
        assert torch.equal(alone(torch.zeros(1, 1), logits[1:2])[0], beside(torch.zeros(3, 1), logits)[1])


def test_an_answer_ends_with_its_first_end() -> None:
    assert until_end([5, 6, 2, 7, 2], [2, 3]) == [5, 6, 2]
    assert until_end([5, 6], [2, 3]) == [5, 6]


def test_kl_prompts_needs_a_reference_that_scores_new_text() -> None:
    for reference in ([], ["reference=cached"], ["loss=simpo"]):
        (found,) = problems("eval.kl_prompts=8", *reference)
        assert "reference=sharded" in found and "eval.kl_prompts=0" in found
    (found,) = problems("eval.kl_prompts=8", "reference=sharded", "eval.fraction=0")
    assert "held-out prompts, and there are none" in found
    composed("eval.kl_prompts=8", "reference=sharded")
    composed("eval.kl_prompts=8", "reference=adapter_off", "adapter=lora")


def test_kl_samples_is_the_mean_log_ratio_of_what_the_policy_draws() -> None:
    """Against the log-probabilities of both models' own forward over the same answers; zero for one model."""
    policy, other = (Scorer(build_tiny_model(seed), "packed") for seed in (1, 2))
    tokenizer, here = build_tiny_tokenizer(), world()
    pairs = [
        TokenizedPair(prompt_ids=ids, chosen_ids=[9], rejected_ids=[8], source=f"row {i}", id=str(i))
        for i, ids in enumerate([[2, 40, 50, 4, 3], [2, 60, 4, 3], [2, 70, 71, 72, 73, 4, 3]])
    ]
    stop: Any = SimpleNamespace(check=lambda: None)
    generator = Generator(max_new_tokens=6, tokenizer=tokenizer, end_of_turn="<|end|>", world=here, stop=stop)

    def drift(reference: Scorer) -> SampledDrift:
        held_out = HeldOut(
            groups=[],
            mismatched=[],
            datasets=[],
            micro=MicroBatches(layout="packed", max_tokens=12, max_pairs=None, world_size=1),
            engine=SimpleNamespace(scorer=policy, forward=policy),  # type: ignore[arg-type]
            reference=SimpleNamespace(logps=reference),  # type: ignore[arg-type]
            loss=Loss(SigmoidLossConfig()),
            world=here,
            stop=stop,
        )
        return SampledDrift(pairs=pairs, generator=generator, held_out=held_out, seed=3)

    found = drift(other).measure(policy)["kl/samples"]
    seeds = [zlib.crc32(f"3 {pair.id}".encode()) for pair in pairs]
    answers = generator.answers(policy, [pair.prompt_ids for pair in pairs], seeds)
    assert len({tuple(answer) for answer in answers}) == 3, "drawn, each for itself"
    ratios = []
    for pair, answer in zip(pairs, answers, strict=True):
        ids = torch.tensor(pair.prompt_ids + answer)
        own = []
        for scorer in (policy, other):
            with scorer.plain_model() as model:
                own.append(own_logps(model, ids, len(pair.prompt_ids)).item())
        ratios.append(own[0] - own[1])
    assert found == pytest.approx(sum(ratios) / 3, rel=1e-4)
    assert drift(policy).measure(policy)["kl/samples"] == 0.0
