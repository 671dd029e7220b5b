"""Steps prepared ahead on a thread are the steps of the plan, from wherever a run begins."""

import threading

import pytest
import torch

from dpo.data import loader as module
from dpo.data.batch import Batch, PromptGroup
from dpo.data.collate import collate
from dpo.data.loader import Loader
from dpo.data.plan import DataPlan
from dpo.data.rows import MicroBatches, spread_groups

pytestmark = pytest.mark.unit

GROUPS = [
    PromptGroup(
        prompt_ids=[1] * (i + 1), responses=[[2] * (i + 2), [3]], pairs=[(0, 1)], pair_ids=[f"{i}"], sources=[f"{i}"]
    )
    for i in range(20)
]
MICRO = MicroBatches(layout="packed", max_tokens=40, max_pairs=None, world_size=2)


def make(worker: int = 0, total_steps: int = 10) -> Loader:
    plan = DataPlan(GROUPS, seed=3, global_batch_size=6)
    return Loader(plan=plan, micro=MICRO, worker=worker, pin=False, total_steps=total_steps)


def expected(worker: int, step: int) -> list[Batch]:
    groups = [GROUPS[g] for g in DataPlan(GROUPS, seed=3, global_batch_size=6).step(step).groups]
    return [collate(row, "packed") for row in spread_groups(groups, MICRO)[worker]]


def assert_same(found: list[Batch], wanted: list[Batch]) -> None:
    assert [batch.pair_ids for batch in found] == [batch.pair_ids for batch in wanted]
    assert all(torch.equal(a.ids, b.ids) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("worker", [0, 1])
@pytest.mark.parametrize("begin", [0, 5])
def test_steps_are_those_of_the_plan(worker: int, begin: int) -> None:
    loader = make(worker)
    for step in range(begin, 10):
        prepared = loader.step(step)
        assert prepared.plan.step == step
        assert_same(prepared.batches, expected(worker, step))


def test_a_step_may_be_asked_for_again_or_out_of_order() -> None:
    loader = make()
    for step in (0, 0, 7, 2, 2):
        assert_same(loader.step(step).batches, expected(0, step))


def test_the_next_steps_are_prepared_before_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, str]] = []
    both = threading.Event()

    def prepare(self: Loader, step: int) -> int:
        seen.append((step, threading.current_thread().name))
        if step == module.AHEAD:
            both.set()
        return step

    monkeypatch.setattr(Loader, "_prepare", prepare)
    assert make().step(0) == 0
    assert both.wait(10)
    assert [step for step, _ in seen] == [0, *range(1, module.AHEAD + 1)]
    assert all(name.startswith("loader") for _, name in seen)


def test_nothing_is_prepared_behind_the_last_step(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(Loader, "_prepare", lambda self, step: seen.append(step))
    loader = make(total_steps=3)
    for step in range(3):
        loader.step(step)
    assert seen == [0, 1, 2]


def test_what_fails_on_the_thread_fails_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(micro: MicroBatches, groups: list[PromptGroup]) -> Batch:
        raise ValueError("broken row")

    monkeypatch.setattr(MicroBatches, "collate", broken)
    with pytest.raises(ValueError, match="broken row"):
        make().step(0)
