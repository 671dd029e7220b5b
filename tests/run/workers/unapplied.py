"""Gradients and losses that are not finite on one worker: `unapplied.py [OVERRIDES]`.

One JSON line from rank 0: what they changed, and whether the step after them is the one it would have been without.
"""

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from dpo.build_model import build_engine, build_policy
from dpo.config.compose import compose_run
from dpo.data.batch import Batch, Counts, PromptGroup
from dpo.data.collate import collate
from dpo.distributed import launcher
from dpo.distributed.engine import Engine, Stepped
from dpo.distributed.loss_scale import WINDOW
from dpo.distributed.world import World
from dpo.log import setup_logging
from dpo.losses.loss import Loss
from dpo.preempt import StopRequest
from dpo.start import start
from dpo.step import Work, train_step

State = dict[str, dict[str, Tensor]]


class Constant:
    def logps(self, batch: Batch) -> Tensor:
        return -5.0 * batch.tokens


def batches(rank: int, number: int) -> Iterator[tuple[Batch, bool]]:
    """Two micro-batches of one worker for step `number`."""
    generator = torch.Generator().manual_seed(100 * number + rank)

    def ids(length: int) -> list[int]:
        return torch.randint(5, 200, (length,), generator=generator).tolist()

    for i in range(2):
        group = PromptGroup(
            prompt_ids=ids(9), responses=[ids(6), ids(4)], pairs=[(0, 1)], pair_ids=[str(i)], sources=[""]
        )
        yield collate([group], "packed"), i == 1


@dataclass(kw_only=True, slots=True)
class Job:
    engine: Engine
    world: World
    loss: Loss

    def step(self, number: int) -> Stepped:
        counts = Counts(pairs=4, answers=8, response_tokens=40, chosen_tokens=24, tokens=112)
        work = Work(batches=lambda: batches(self.world.rank, number), n_batches=2, mismatched=list, counts=counts)
        train_step(self.engine, Constant(), work, self.loss, self.world)
        return self.engine.step(1e-3)

    def poisoned(self, what: str, rank: int) -> Stepped:
        """With a gradient of NaN or inf, or a loss of inf, on one worker only."""
        if rank != self.world.rank:
            return self.step(9)
        value, backward = self.loss.value_and_slope, self.engine.backward

        def infinite_loss(*arguments: Any) -> tuple[list[Tensor], Tensor]:
            (values,), slope = value(*arguments)
            return [values + math.inf], slope

        def scaled(objective: Tensor, last: bool) -> None:
            backward(objective * float(what), last)

        place: Any = (self.loss, "value_and_slope") if what == "loss" else (self.engine, "backward")
        with patch.object(*place, infinite_loss if what == "loss" else scaled):
            return self.step(9)


def check_steps(job: Job) -> dict[str, Any]:
    engine = job.engine
    assert job.step(0).applied and job.step(1).applied
    before, counters = state(engine), engine.state_dict()
    assert job.step(2).applied
    expected = state(engine)

    put_back(engine, before, counters)
    found: dict[str, Any] = {"put back": same(state(engine), before)}
    for what, rank in (("nan", 1), ("inf", 0), ("loss", 1)):
        stepped = job.poisoned(what, rank)
        everyone = job.world.gather(torch.tensor([float(stepped.applied)], device=job.world.device))
        found[f"{what} applied"] = everyone.sum().item()
        found[f"{what} changed nothing"] = same(state(engine), before) and engine.state_dict() == counters
    assert job.step(2).applied
    return found | {"then as without": same(state(engine), expected), "taken": not same(expected, before)}


def check_scale(job: Job) -> dict[str, Any]:
    """Of fp16: what becomes of the scale, and of the weights meanwhile."""
    engine = job.engine

    def after(scale: float, good_steps: int, *what: str) -> list[tuple[bool, bool, float | None]]:
        """(applied, rescaled, loss scale) of steps that begin with this scale: a good one, or one with this poison."""
        own = {"scale": scale, "good_steps": good_steps}
        engine.load_state_dict({**engine.state_dict(), "loss_scale": own})
        steps = [job.poisoned(kind, 1) if kind != "good" else job.step(0) for kind in what]
        return [(stepped.applied, stepped.rescaled, stepped.loss_scale) for stepped in steps]

    found: dict[str, Any] = {"good": after(64, 0, "good")}
    before = state(engine)
    found["overflow"] = after(2.0**40, 0, "good")
    found["bad"] = after(64, 0, "nan", "loss")
    found["least"] = after(1, 0, "nan", "nan")
    found["changed nothing"] = same(state(engine), before)
    found["scales of growth"] = [scale for _, _, scale in after(64, WINDOW - 2, *["good"] * 5)]
    return found


def main(*overrides: str) -> None:
    setup_logging(launcher.rank() == 0)
    settings = ["model=tiny", "data=demo", "output_dir=.", "name=x", "optim.lr=1e-3", *overrides]
    with patch("dpo.start.check_device"):  # fp16 on a CPU is refused for being slow
        began = start(compose_run(settings, launcher.world_size()), StopRequest())
    world = began.world
    engine = build_engine(began.config, build_policy(began.config, began.source, world), world)
    job = Job(engine=engine, world=world, loss=Loss(began.config.loss))
    found = check_scale(job) if world.precision == "fp16" else check_steps(job)
    if world.is_main:
        sys.stdout.write(f"FOUND {json.dumps(found)}\n")
        sys.stdout.flush()
    world.close()


def state(engine: Engine) -> State:
    return {name: {key: t.clone() for key, t in tensors.items()} for name, tensors in engine.state()}


def same(one: State, other: State) -> bool:
    """Bit for bit."""
    return one.keys() == other.keys() and all(
        one[name].keys() == other[name].keys()
        and all(torch.equal(one[name][key], other[name][key]) for key in one[name])
        for name in one
    )


def put_back(engine: Engine, tensors: State, counters: dict[str, Any]) -> None:
    engine.load_state_dict(counters)
    for name, parts in tensors.items():
        engine.load_state(name, parts)
    engine.finish_loading()


main(*sys.argv[1:])
