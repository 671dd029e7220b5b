"""What was counted since the last record, through a checkpoint: every worker's own sums, bit for bit."""

import json

import pytest
import torch
from one_worker import world
from torch import Tensor

from dpo.config.losses import SigmoidLossConfig
from dpo.distributed.engine import Stepped
from dpo.distributed.world import World
from dpo.losses.loss import Loss
from dpo.metrics import StepStats
from dpo.window import Window

pytestmark = pytest.mark.unit

LOSS = Loss(SigmoidLossConfig())


class Gathering(World):
    """One of several workers; the sums of all are known."""

    everyone: Tensor

    def gather(self, values: Tensor) -> Tensor:
        return self.everyone


def one_of(size: int, rank: int, everyone: Tensor | None = None) -> Gathering:
    one = world()
    made = Gathering(
        accelerator=one.accelerator, rank=rank, size=size, device=one.device, zero=0, precision=one.precision
    )
    made.everyone = torch.zeros(0) if everyone is None else everyone
    return made


def saved(everyone: Tensor) -> str:
    """The text in a manifest."""
    window = Window(
        world=one_of(len(everyone), 0, everyone),
        loss=LOSS,
        seconds=1.5,
        stepped=Stepped(grad_norm=0.1),
        lr=1e-6,
        batch="ab12",
        epoch=1 / 3,
    )
    window.collect()
    return json.dumps(window.state_dict())


def loaded(text: str, size: int) -> list[Window]:
    windows = [Window(world=one_of(size, rank), loss=LOSS) for rank in range(size)]
    for window in windows:
        window.load_state_dict(json.loads(text))
    return windows


@pytest.fixture
def everyone() -> Tensor:
    return (
        torch.randn(2, len(StepStats(LOSS).names), dtype=torch.float64, generator=torch.Generator().manual_seed(0)) / 3
    )


def test_every_worker_gets_its_own_sums_back(everyone: Tensor) -> None:
    windows = loaded(saved(everyone), 2)
    assert torch.equal(torch.stack([w.stats.sums for w in windows]), everyone)
    for window in windows:
        assert (window.seconds, window.batch, window.epoch) == (1.5, "ab12", 1 / 3)
        assert window.stepped == Stepped(grad_norm=0.1) and window.lr == 1e-6


@pytest.mark.parametrize("size", [1, 3])
def test_other_workers_get_the_total_once(size: int, everyone: Tensor) -> None:
    windows = loaded(saved(everyone), size)
    assert torch.equal(sum(w.stats.sums for w in windows), everyone.sum(0))


def test_nothing_since_the_last_record() -> None:
    (window,) = loaded(json.dumps(Window(world=world(), loss=LOSS).state_dict()), 1)
    assert window.stepped is None and not window.stats.sums.any()


def test_numbers_that_are_none_stay_visible(everyone: Tensor) -> None:
    everyone[1, 0] = float("nan")
    assert torch.equal(loaded(saved(everyone), 2)[1].stats.sums.isnan(), everyone[1].isnan())
