"""On a GPU: forward, loss, backward, optimizer and metrics of a step run with the host waiting once: for the gradient
norm, which decides whether the step is applied."""

import warnings
from unittest.mock import Mock

import pytest
import torch

from dpo.config.losses import SigmoidLossConfig
from dpo.config.schema import OptimConfig
from dpo.data.batch import Counts, PromptGroup
from dpo.data.collate import collate
from dpo.distributed.plain import PlainEngine
from dpo.distributed.world import World
from dpo.losses.loss import Loss
from dpo.model import attention
from dpo.model.reference import FrozenReference
from dpo.model.scorer import Scorer
from dpo.model.tiny import build_tiny_model
from dpo.step import Work, train_step

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def groups(seed: int) -> list[PromptGroup]:
    generator = torch.Generator().manual_seed(seed)

    def ids(length: int) -> list[int]:
        return torch.randint(5, 200, (length,), generator=generator).tolist()

    return [
        PromptGroup(prompt_ids=ids(20), responses=[ids(8), ids(11)], pairs=[(0, 1)], pair_ids=[str(i)], sources=[""])
        for i in range(3)
    ]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_waits_once(precision: str) -> None:
    attention.register()
    device = torch.device("cuda")
    world = World(accelerator=Mock(), rank=0, size=1, device=device, zero=0, precision=precision)
    policy, frozen = (Scorer(build_tiny_model(0).to(device, world.dtype), "packed").train() for _ in range(2))
    engine = PlainEngine(policy, OptimConfig(lr=1e-4), world)
    loss = Loss(SigmoidLossConfig())

    def compute(seed: int) -> None:
        work = Work(
            batches=lambda: ((collate(groups(seed + i), "packed").to(device), i == 2) for i in range(3)),
            n_batches=3,
            mismatched=list,
            counts=Counts(pairs=9, answers=18, response_tokens=171, chosen_tokens=72, tokens=351),
        )
        train_step(engine, FrozenReference(frozen), work, loss, world)

    compute(0)  # libraries and buffers
    engine.step(1e-4)
    torch.cuda.set_sync_debug_mode("error")
    try:
        compute(10)
        torch.cuda.set_sync_debug_mode("warn")
        with warnings.catch_warnings(record=True) as waits:
            warnings.simplefilter("always")
            stepped = engine.step(1e-4)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert stepped.applied
    assert len(waits) == 1
