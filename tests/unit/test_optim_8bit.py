"""8-bit moments: what is written to a checkpoint and read again stays what it was."""

import pytest
import torch
from torch import nn

from dpo.config.schema import OptimConfig
from dpo.optim import MOMENTS, adamw, parameter_groups, read_moments, set_moments

pytest.importorskip("bitsandbytes", reason="optim=adamw_8bit needs the extra: pip install -e '.[eightbit]'")
pytestmark = pytest.mark.unit


def trained(kind: str, steps: int = 5) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(96, 70), nn.LayerNorm(70))
    optimizer = adamw(parameter_groups(list(model.named_parameters()), 0.01), OptimConfig(lr=1e-3, kind=kind))
    for _ in range(steps):
        step(model, optimizer)
    return model, optimizer


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    optimizer.step()


def test_only_large_matrices_are_kept_in_8_bits() -> None:
    model, optimizer = trained("adamw_8bit")
    types = {name: optimizer.state[p]["state1"].dtype for name, p in model.named_parameters()}
    assert types.pop("0.weight") == torch.uint8
    assert set(types.values()) == {torch.float32}


def test_moments_survive_being_written_and_read_many_times() -> None:
    """Exactly. bitsandbytes' own quantisation would shrink blocks that a negative value leads by 0.7 % each time."""
    model, optimizer = trained("adamw_8bit")
    for p in model.parameters():
        before = read_moments(optimizer.state[p], p)
        codes = {key: optimizer.state[p][key].clone() for key in ("state1", "state2")}
        for _ in range(3):
            set_moments(optimizer, p, read_moments(optimizer.state[p], p), step=5)
        after = read_moments(optimizer.state[p], p)
        for key in MOMENTS:
            torch.testing.assert_close(after[key], before[key], rtol=1e-6, atol=0)
        assert all(torch.equal(optimizer.state[p][key], codes[key]) for key in codes)


def test_float32_moments_can_be_taken_over_and_given_back() -> None:
    """A checkpoint of either optimizer continues with the other: the next step is nearly the same."""
    model, exact = trained("adamw")
    other, coarse = trained("adamw_8bit", steps=0)
    other.load_state_dict(model.state_dict())
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        set_moments(coarse, q, read_moments(exact.state[p], p), step=5)
    for module, optimizer in ((model, exact), (other, coarse)):
        torch.manual_seed(1)
        step(module, optimizer)
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(q, p, rtol=0, atol=5e-4)  # half a step of lr = 1e-3
