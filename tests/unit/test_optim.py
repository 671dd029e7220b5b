"""The learning rate at the borders of its schedule, and which parameters decay."""

import pytest
import torch
from torch import nn

from dpo.config.schema import OptimConfig
from dpo.errors import EnvironmentProblem
from dpo.optim import (
    ADAPTER_LR,
    FULL_LR,
    adamw,
    default_lr,
    learning_rate,
    parameter_groups,
    require_optimizer,
)

pytestmark = pytest.mark.unit

TOTAL = 100


def rates(total: int = TOTAL, **changes: object) -> list[float]:
    config = OptimConfig(**{"lr": 1.0, "warmup_ratio": 0.1, "scheduler": "cosine", **changes})
    return [learning_rate(step, total, config) for step in range(total)]


@pytest.mark.parametrize("scheduler", ["cosine", "linear", "constant"])
def test_warm_up_is_linear_and_no_step_is_lost_at_zero(scheduler: str) -> None:
    """Ten steps of 0.1, 0.2, ... 1.0 times lr: the first step already learns, the tenth has the full rate."""
    found = rates(scheduler=scheduler)
    assert found[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert found[10] == pytest.approx(1.0)
    assert max(found) <= 1.0


def test_cosine_and_linear_in_the_middle_and_at_the_end() -> None:
    cosine, linear = rates(), rates(scheduler="linear")
    assert cosine[55] == pytest.approx(0.5)
    assert linear[55] == pytest.approx(0.5)
    assert cosine[99] == pytest.approx(0.00030458649, rel=1e-6)  # (1 + cos(89/90 pi)) / 2
    assert linear[99] == pytest.approx(1 / 90)  # the last step still learns
    for found in (cosine, linear):
        assert found[10:] == sorted(found[10:], reverse=True)
    assert rates(scheduler="constant")[10:] == [1.0] * 90


def test_min_lr_ratio_is_where_the_schedule_ends() -> None:
    cosine, linear = rates(min_lr_ratio=0.2), rates(scheduler="linear", min_lr_ratio=0.2)
    assert cosine[55] == pytest.approx(0.6)
    assert linear[55] == pytest.approx(0.6)
    assert cosine[99] == pytest.approx(0.2, abs=1e-3)
    assert linear[99] == pytest.approx(0.2 + 0.8 / 90)


def test_no_warm_up_short_runs_and_warm_up_alone() -> None:
    assert rates(warmup_ratio=0)[0] == 1.0
    assert rates(total=1)[0] == 1.0  # one step: it is the warm-up's last
    assert rates(total=5)[0] == 1.0  # a part of a step rounds up to one
    assert rates(total=15)[:2] == pytest.approx([0.5, 1.0])
    assert rates(total=4, warmup_ratio=1.0) == pytest.approx([0.25, 0.5, 0.75, 1.0])


def test_the_rate_scales_with_lr() -> None:
    assert rates(lr=3e-7) == pytest.approx([3e-7 * rate for rate in rates()])


def test_default_rates() -> None:
    assert (default_lr("none"), default_lr("lora")) == (FULL_LR, ADAPTER_LR) == (5e-7, 5e-5)


def test_matrices_decay_and_vectors_do_not() -> None:
    """Biases and norm weights keep out of the weight decay."""
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3), nn.LayerNorm(3))
    named = list(model.named_parameters())
    decayed, spared = parameter_groups(named, 0.1)
    assert [decayed["weight_decay"], spared["weight_decay"]] == [0.1, 0.0]
    names = {id(p): name for name, p in named}
    assert [names[id(p)] for p in decayed["params"]] == ["0.weight", "1.weight"]
    assert [names[id(p)] for p in spared["params"]] == ["1.bias", "2.weight", "2.bias"]


def test_a_sharded_parameter_is_judged_by_its_whole_shape() -> None:
    """Under ZeRO-3 a parameter itself is empty; `ds_shape` says what it is."""
    matrix, vector = nn.Parameter(torch.empty(0)), nn.Parameter(torch.empty(0))
    matrix.ds_shape, vector.ds_shape = torch.Size([4, 3]), torch.Size([3])
    groups = parameter_groups([("matrix", matrix), ("vector", vector)], 0.1)
    assert [(group["weight_decay"], len(group["params"])) for group in groups] == [(0.1, 1), (0.0, 1)]
    assert groups[0]["params"][0] is matrix


def test_empty_groups_are_left_out() -> None:
    """LoRA trains matrices only; DeepSpeed does not take an empty group."""
    (only,) = parameter_groups([("a", nn.Parameter(torch.ones(2, 2)))], 0.1)
    assert only["weight_decay"] == 0.1


def test_adamw_takes_its_settings_and_decays_one_group() -> None:
    """One step with a zero gradient: only the matrix shrinks, by lr * weight_decay."""
    matrix, vector = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    config = OptimConfig(lr=0.1, weight_decay=0.5, beta1=0.8, beta2=0.9, eps=1e-6)
    optimizer = adamw(parameter_groups([("m", matrix), ("v", vector)], config.weight_decay), config)
    assert all(group["betas"] == (0.8, 0.9) and group["eps"] == 1e-6 for group in optimizer.param_groups)
    matrix.grad, vector.grad = torch.zeros(2, 2), torch.zeros(2)
    optimizer.step()
    assert matrix.tolist() == [[pytest.approx(0.95)] * 2] * 2
    assert vector.tolist() == [1.0, 1.0]


def test_the_fused_step_equals_the_plain_one() -> None:
    """Over steps whose rate changes, as the schedule does it: within rounding."""
    torch.manual_seed(0)
    weights = [torch.randn(64, 33), torch.randn(33)]
    config = OptimConfig(lr=0.1, weight_decay=0.1)
    fused = [nn.Parameter(w.clone()) for w in weights]
    plain = [nn.Parameter(w.clone()) for w in weights]
    optimizers = (
        adamw([{"params": fused, "weight_decay": 0.1}], config),
        torch.optim.AdamW(plain, lr=0.1, weight_decay=0.1, fused=False, foreach=False),
    )
    for rate in (1e-3, 3e-3, 1e-3):
        for p, q in zip(fused, plain, strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = rate
            optimizer.step()
    assert optimizers[0].param_groups[0]["fused"]
    for p, q in zip(fused, plain, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-7)


def test_a_missing_package_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    require_optimizer(OptimConfig())
    with pytest.raises(EnvironmentProblem, match="pip install 'bitsandbytes"):
        require_optimizer(OptimConfig(kind="adamw_8bit"))
