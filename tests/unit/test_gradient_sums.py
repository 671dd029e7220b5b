"""Every worker sends the same buckets in the same order, whatever gradients it has and in whatever order they come."""

import pytest
import torch
from torch import Tensor, nn

from dpo.distributed import gradient_sums
from dpo.distributed.gradient_sums import GradientSums

pytestmark = pytest.mark.unit


class Doubling:
    """A world of two equal workers: the sum is twice the value, and there when one waits for it."""

    def __init__(self) -> None:
        self.sent: list[Tensor] = []

    def start_sum(self, values: Tensor) -> "Doubled":
        self.sent.append(values.clone())
        return Doubled(values)


class Doubled:
    def __init__(self, values: Tensor):
        self.values = values

    def wait(self) -> None:
        self.values.mul_(2)


@pytest.fixture
def layers(monkeypatch: pytest.MonkeyPatch) -> list[nn.Parameter]:
    monkeypatch.setattr(gradient_sums, "BUCKET", 4)  # every parameter is a bucket of its own
    return [nn.Parameter(torch.full((4,), float(i + 1))) for i in range(3)]


def backward(layers: list[nn.Parameter], used: list[int]) -> None:
    sum((layers[i] * (i + 1)).sum() for i in used).backward()


def test_sums_replace_the_gradients_of_all_micro_batches(layers: list[nn.Parameter]) -> None:
    world = Doubling()
    sums = GradientSums(layers, layers, world)
    backward(layers, [0, 1, 2])
    assert world.sent == [], "nothing is sent before the last micro-batch"
    sums.begin()
    backward(layers, [0, 1, 2])
    assert len(world.sent) == 3, "all have gone out before backward returned"
    sums.finish()
    assert [p.grad.tolist() for p in layers] == [[4.0 * (i + 1)] * 4 for i in range(3)]


def test_a_parameter_without_a_gradient_keeps_the_order(layers: list[nn.Parameter]) -> None:
    world = Doubling()
    sums = GradientSums(layers, layers, world)
    sums.begin()
    backward(layers, [0, 2])  # the middle one is unused here, on another worker it may not be
    assert [v.tolist() for v in world.sent] == [[3.0] * 4]
    sums.finish()
    assert [v.tolist() for v in world.sent] == [[3.0] * 4, [0.0] * 4, [1.0] * 4]
    assert [p.grad.tolist() for p in layers] == [[2.0] * 4, [0.0] * 4, [6.0] * 4]
