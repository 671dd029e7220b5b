"""The trainer against a second implementation of DPO that shares nothing with it but the order of the pairs: whole
sequences one by one, the model's own logits, torch's AdamW."""

import copy
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from dpo.data.batch import PromptGroup
from dpo.data.plan import DataPlan
from dpo.demo.pairs import demo_pairs, demo_texts
from dpo.model.tiny import build_tiny_model, build_tiny_tokenizer
from launch import Ended

pytestmark = pytest.mark.run

BETA, LR, BATCH, STEPS, WARMUP = 0.3, 1e-4, 16, 20, 2


def summed_logp(model: torch.nn.Module, prompt: list[int], answer: list[int]) -> torch.Tensor:
    ids = torch.tensor([prompt + answer])
    logps = model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
    return logps[len(prompt) - 1 :].sum()


def learning_rate(step: int) -> float:
    """Linear warm-up over a tenth of the steps, then a cosine to zero."""
    if step < WARMUP:
        return LR * (step + 1) / WARMUP
    return LR * (1 + math.cos(math.pi * (step - WARMUP) / (STEPS - WARMUP))) / 2


def test_losses_and_norms_of_twenty_steps_agree(one: Ended, tmp_path: Path) -> None:
    tokenizer = build_tiny_tokenizer(demo_texts())
    policy = build_tiny_model(42, len(tokenizer))
    reference = copy.deepcopy(policy).requires_grad_(False)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=LR, weight_decay=0.0)
    train, _ = demo_pairs(300)
    order = DataPlan(
        [PromptGroup(prompt_ids=[], responses=[], pairs=[], pair_ids=[p.id], sources=[]) for p in train],
        seed=42,
        global_batch_size=BATCH,
    )
    for step, row in enumerate(one.train):
        pairs = [train[i] for i in order.step(step).groups]
        losses = []
        for pair in pairs:
            prompt = tokenizer.apply_chat_template(pair.prompt, add_generation_prompt=True)["input_ids"]
            logs = []
            for answer in (pair.chosen, pair.rejected):
                ids = tokenizer.apply_chat_template([*pair.prompt, *answer])["input_ids"]
                assert ids[: len(prompt)] == prompt
                own, frozen = (summed_logp(m, prompt, ids[len(prompt) :]) for m in (policy, reference))
                logs.append(own - frozen)
            losses.append(-F.logsigmoid(BETA * (logs[0] - logs[1])))
        loss = torch.stack(losses).mean()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        optimizer.step()
        optimizer.zero_grad()
        assert row["loss"] == pytest.approx(loss.item(), abs=1e-5), f"step {step + 1}"
        assert row["grad_norm"] == pytest.approx(norm.item(), rel=1e-3), f"step {step + 1}"
        assert row["learning_rate"] == pytest.approx(learning_rate(step))
