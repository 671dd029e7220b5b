"""Weights that follow: what a move computes, what half precision keeps of it, and when moves are due."""

import pytest
import torch
from one_worker import world
from torch import Tensor, nn

from dpo.config.schema import LoraAdapterConfig, MovingReferenceConfig, OptimConfig
from dpo.distributed.engine import trained
from dpo.distributed.followed import FollowedEngine
from dpo.distributed.moving import MovingWeights
from dpo.distributed.placement import share
from dpo.distributed.plain import PlainEngine
from dpo.errors import CheckpointError, ModelError
from dpo.model.adapter import add_lora, add_snapshot, snapshot_active, snapshot_parameters
from dpo.model.tiny import build_tiny_model
from dpo.progressed import Progressed

pytestmark = pytest.mark.unit


def linear(seed: int, dtype: torch.dtype = torch.float32) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(5, 3).to(dtype)


def moving(
    leader: nn.Module, follower: nn.Module, *, every: int = 1, mix: float = 1.0, precision: str = "fp32"
) -> MovingWeights:
    here = world()
    here.precision = precision
    settings = MovingReferenceConfig(sync_every=every, sync_mix=mix)
    return MovingWeights(trained(leader), dict(follower.named_parameters()), settings, here)


def test_a_hard_move_is_a_copy() -> None:
    leader, follower = linear(0), linear(1)
    moving(leader, follower).move()
    for ours, theirs in zip(follower.parameters(), leader.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_soft_move_is_the_mixture() -> None:
    leader, follower = linear(0), linear(1)
    expected = [0.3 * a + 0.7 * b for a, b in zip(leader.parameters(), follower.parameters(), strict=True)]
    moving(leader, follower, mix=0.3).move()
    torch.testing.assert_close(list(follower.parameters()), [nn.Parameter(value) for value in expected])


def test_small_moves_add_up_in_half_precision() -> None:
    """One of 2^-10 is below the rounding of bf16: without float32 values beside them the weights would stay."""
    leader, follower = linear(0, torch.bfloat16), linear(1, torch.bfloat16)
    start, goal = follower.weight.detach().float(), leader.weight.detach().float()
    weights = moving(leader, follower, mix=2**-10, precision="bf16")
    for _ in range(1024):
        weights.move()
    expected = goal + (start - goal) * (1 - 2**-10) ** 1024
    torch.testing.assert_close(weights.whole("weight"), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(follower.weight, weights.whole("weight").bfloat16())


@pytest.mark.parametrize(("mix", "precision"), [(1.0, "fp32"), (0.3, "fp32"), (1.0, "bf16"), (0.3, "bf16")])
def test_what_is_put_back_moves_on_as_before(mix: float, precision: str) -> None:
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    leader, follower, again = linear(0, dtype), linear(1, dtype), linear(2, dtype)
    first = moving(leader, follower, mix=mix, precision=precision)
    first.move()
    kept = {name: first.whole(name).clone() for name, _ in leader.named_parameters()}
    assert all(value.dtype is torch.float32 for value in kept.values())
    second = moving(leader, again, mix=mix, precision=precision)
    for name, value in kept.items():
        second.load(name, value)
    second.finish_loading()
    with torch.no_grad():
        leader.weight.add_(1)
    for weights in (first, second):
        weights.move()
    for name in kept:
        assert torch.equal(first.whole(name), second.whole(name))
        assert torch.equal(dict(follower.named_parameters())[name], dict(again.named_parameters())[name])
    assert not torch.equal(kept["weight"], first.whole("weight"))


def test_moves_come_before_the_step_that_follows_every_nth_and_once_only() -> None:
    """A step that is not applied is tried again with the same count of applied ones."""
    leader, follower = linear(0), linear(1)
    weights = moving(leader, follower, every=3, mix=0.5)
    seen, moves = [], 0
    for applied in (0, 1, 2, 3, 3, 4, 5, 6, 6, 6, 7):
        before = follower.weight.detach().clone()
        moves = weights.follow(applied, moves)
        seen.append((applied, moves, not torch.equal(before, follower.weight)))
    assert [(applied, moves) for applied, moves, moved in seen if moved] == [(3, 1), (6, 2)]
    assert moves == 2


def test_after_a_rollback_the_moves_are_those_of_the_checkpoint() -> None:
    """Its weights are back too: a move that came after it is made again."""
    done, now = Progressed(step=6, reference_syncs=1), Progressed(step=9, reference_syncs=2)
    done.after_rollback(now)
    assert (done.step, done.reference_syncs) == (9, 1)


def test_a_reference_of_another_shape_is_refused() -> None:
    with pytest.raises(ModelError, match=r"weight has shape \[3, 5\].*one of shape \[4, 5\]"):
        moving(linear(0), nn.Linear(5, 4))
    with pytest.raises(ModelError, match="no such weight"):
        moving(linear(0), nn.Linear(5, 3, bias=False))


@pytest.mark.parametrize("size", [1, 2, 4, 7])
def test_shares_of_all_workers_make_the_whole(size: int) -> None:
    """15 weights on 2, 4 or 7 workers: the last shard, or the last two, have room for more than there is."""
    whole = torch.arange(15.0).view(3, 5)
    sharded = nn.Parameter(torch.empty(0))
    sharded.ds_id, sharded.ds_tensor = 0, torch.empty(-(-15 // size))  # type: ignore[attr-defined]
    assert torch.equal(torch.cat([share(whole, sharded, rank) for rank in range(size)]), whole.flatten())


class Engine(PlainEngine):
    def forward(self, batch: object) -> Tensor:
        return self.scorer(torch.ones(1, 5)).sum()


def test_a_checkpoint_holds_policy_and_reference() -> None:
    leader, follower = linear(0), linear(1)
    optim = OptimConfig(lr=0.1)
    engine = FollowedEngine(Engine(leader, optim, world()), moving(leader, follower))
    state = {name: {key: value.clone() for key, value in tensors.items()} for name, tensors in engine.state()}
    assert {tuple(tensors) for tensors in state.values()} == {("weight", "reference")}
    other, behind = linear(2), linear(3)
    restored = FollowedEngine(Engine(other, optim, world()), moving(other, behind))
    for name, _ in restored.parameters():
        restored.load_state(name, state[name])
    restored.finish_loading()
    assert torch.equal(other.weight, leader.weight) and torch.equal(behind.weight, follower.weight)
    with pytest.raises(CheckpointError, match="reference=moving"):
        restored.load_state("weight", {"weight": state["weight"]["weight"]})


def test_a_snapshot_takes_the_place_of_the_adapter_and_never_learns() -> None:
    model = build_tiny_model(0, 64)
    adapted = add_lora(model, LoraAdapterConfig(rank=2))
    learning = [name for name, _ in trained(model)]
    ids = torch.arange(6)[None]
    base = model(ids).logits
    add_snapshot(adapted)
    assert [name for name, _ in trained(model)] == learning == list(snapshot_parameters(model))
    with torch.no_grad():
        for _, parameter in trained(model):
            parameter.add_(0.1)
    policy = model(ids).logits
    assert not torch.equal(policy, base)
    with snapshot_active(adapted):
        assert torch.equal(model(ids).logits, base)
        assert trained(model) == []
    assert torch.equal(model(ids).logits, policy)
    assert [name for name, _ in trained(model)] == learning
    settings = MovingReferenceConfig(sync_every=1)
    MovingWeights(trained(model), snapshot_parameters(model), settings, world()).move()
    with snapshot_active(adapted):
        assert torch.equal(model(ids).logits, policy)
