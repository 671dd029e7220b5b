"""Real pairs and a really trained model on two ZeRO-3 workers, against plain DPO on whole sequences."""

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

from dpo.config.schema import DataConfig
from dpo.data.groups import group_pairs
from dpo.data.plan import DataPlan
from dpo.data.prepare import prepare
from dpo.data.store.obtain import Place
from dpo.data.store.recipe import Tools
from dpo.data.text.limits import TokenLimits
from dpo.data.text.template import choose_template
from launch import ROOT, train

SHARED = ROOT.parent / "shared" / "data"
MODEL, PAIRS = SHARED / "models" / "stories260K", SHARED / "pref" / "sharegpt_en.json"

pytestmark = [
    pytest.mark.run,
    pytest.mark.real,
    pytest.mark.skipif(not (MODEL.exists() and PAIRS.exists()), reason="needs ../shared/data beside the project"),
]

BETA, LR, BATCH, STEPS = 0.1, 1e-5, 4, 3


def summed_logp(model: torch.nn.Module, prompt: list[int], answer: list[int]) -> torch.Tensor:
    ids = torch.tensor([prompt + answer])
    logps = model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
    return logps[len(prompt) - 1 :].sum()


def test_losses_agree_step_by_step(tmp_path: Path) -> None:
    run = train(
        2,
        f"model.path={MODEL}",
        f"data.path={PAIRS}",
        "data.max_length=1024",
        "data.truncation=cut_answers",
        "data.limit=60",
        f"optim.lr={LR}",
        "optim.scheduler=constant",
        "optim.warmup_ratio=0",
        f"optim.global_batch_size={BATCH}",
        "optim.micro_batch_tokens=2048",
        f"optim.max_steps={STEPS}",
        "eval.samples=0",
        "track.wandb=off",
        "output_dir=.",
        "name=real",
        cwd=tmp_path,
    )
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    limits = TokenLimits(max_length=1024, truncation="cut_answers")
    tools = Tools(tokenizer=tokenizer, template=choose_template(tokenizer, "auto"), limits=limits)
    pairs = prepare(DataConfig(path=str(PAIRS), limit=60), 0.05, tools, Place(cache=tmp_path / "cache")).train
    order = DataPlan(group_pairs(pairs), seed=42, global_batch_size=BATCH)
    policy = AutoModelForCausalLM.from_pretrained(MODEL)
    reference = copy.deepcopy(policy).requires_grad_(False)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=LR, weight_decay=0.0)
    assert len(run.train) == STEPS
    for step, row in enumerate(run.train):
        losses = []
        for pair in (pairs[i] for i in order.step(step).groups):
            ratios = [
                summed_logp(policy, pair.prompt_ids, ids) - summed_logp(reference, pair.prompt_ids, ids)
                for ids in (pair.chosen_ids, pair.rejected_ids)
            ]
            losses.append(-F.logsigmoid(BETA * (ratios[0] - ratios[1])))
        loss = torch.stack(losses).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        # Sums over a thousand tokens, float32: 2,000 nats hold to about 1e-4, times beta.
        assert row["loss"] == pytest.approx(loss.item(), abs=1e-4), f"step {step + 1}"
    assert abs(run.train[-1]["loss"] - run.train[0]["loss"]) > 1e-2, "the steps changed nothing"
