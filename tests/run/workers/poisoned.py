"""Trains as train.py does, but for the steps that the environment names (counted from 0, on the worker POISON_RANK):
POISON_LOSS=2,3 makes the loss infinite in them, POISON_GRADIENT the gradient NaN; LEAVE_OUT passes over them."""

import math
import os
import sys
from typing import Any

from torch import Tensor

from dpo import cli
from dpo.data.batch import PairLogps
from dpo.distributed.engine import Stepped
from dpo.distributed.plain import PlainEngine
from dpo.losses.loss import Loss
from dpo.trainer import Trainer

RANK = os.environ.get("RANK", "0") == os.environ.get("POISON_RANK", "0")
train, value, original_backward = Trainer.train, Loss.value_and_slope, PlainEngine.backward
now = {"loss": False, "gradient": False}


def steps(name: str) -> list[int]:
    return [int(step) for step in os.environ.get(name, "").split(",") if step]


def one_step(trainer: Trainer) -> None:
    step = trainer.done.step
    if step in steps("LEAVE_OUT"):
        trainer.done.step += 1
        trainer.window.stepped = Stepped(grad_norm=math.nan)
        return
    now.update(loss=RANK and step in steps("POISON_LOSS"), gradient=RANK and step in steps("POISON_GRADIENT"))
    train(trainer)
    now.update(loss=False, gradient=False)


def value_and_slope(loss: Loss, logps: PairLogps, *rest: Any) -> tuple[list[Tensor], Tensor]:
    """Infinite for the first pair."""
    values, slope = value(loss, logps, *rest)
    if now["loss"]:
        values[0][0] = math.inf
    return values, slope


def backward(engine: Any, objective: Tensor, last: bool) -> None:
    original_backward(engine, objective * (math.nan if now["gradient"] else 1), last)


Trainer.train = one_step  # type: ignore[method-assign]
Loss.value_and_slope = value_and_slope  # type: ignore[method-assign]
PlainEngine.backward = backward  # type: ignore[method-assign]
sys.exit(cli.main(sys.argv[1:]))
