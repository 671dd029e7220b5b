"""Dynamic loss scaling, without a GPU: a scale that is too large halves; at its least, the step is at fault."""

import math
from dataclasses import replace

import pytest
import torch
from one_worker import world
from torch import Tensor, nn

from dpo.config.schema import OptimConfig
from dpo.data.batch import Batch
from dpo.data.collate import collate
from dpo.distributed import loss_scale
from dpo.distributed.engine import Stepped
from dpo.distributed.plain import PlainEngine

pytestmark = pytest.mark.unit


class Score(nn.Module):
    """The sum of a few fp16 weights: its gradient is the objective's factor times the scale."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, dtype=torch.float16))

    def forward(self, batch: Batch, aligned: bool = False) -> Tensor:
        return self.weight.sum()[None].float()


def engine() -> PlainEngine:
    return PlainEngine(Score(), OptimConfig(lr=0.1, max_grad_norm=0), replace(world(), precision="fp16"))


def step(found: PlainEngine, factor: float = 1.0) -> Stepped:
    found.backward((found.forward(collate([], "packed")) * factor).sum(), last=True)
    return found.step(0.1)


def weight(found: PlainEngine) -> list[float]:
    return dict(found.state())["weight"]["weight"].tolist()


def test_a_scale_that_is_too_large_halves_until_the_step_fits() -> None:
    """65536 is more than fp16 holds (65504), 32768 is not."""
    found = engine()
    first, second = step(found), step(found)
    assert (first.applied, first.rescaled, first.loss_scale) == (False, True, 65536)
    assert (second.applied, second.rescaled, second.loss_scale) == (True, False, 32768)
    assert second.grad_norm == pytest.approx(2.0), "that of the loss itself, not of the scaled one"
    assert found.applied == 1


def test_nothing_is_applied_with_a_scale_that_is_too_large() -> None:
    found = engine()
    step(found)
    assert (weight(found), found.applied) == ([1.0] * 4, 0)
    step(found)
    assert (weight(found), found.applied) == (pytest.approx([0.9] * 4), 1)


def test_at_the_least_scale_the_step_is_at_fault() -> None:
    found = engine()
    halved = [step(found, math.nan).rescaled for _ in range(18)]
    assert halved == [True] * 16 + [False] * 2
    assert step(found).loss_scale == loss_scale.LEAST
    assert found.applied == 1


def test_the_scale_doubles_after_many_good_steps_also_across_a_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_scale, "WINDOW", 5)
    straight = engine()
    expected = [step(straight).loss_scale for _ in range(12)]
    assert expected == [65536, *[32768] * 5, 65536, *[32768] * 5]
    first, then = engine(), engine()
    found = [step(first).loss_scale for _ in range(4)]
    then.load_state_dict(first.state_dict())
    assert then.applied == 3
    assert found + [step(then).loss_scale for _ in range(8)] == expected
