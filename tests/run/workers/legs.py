"""Trains one run after the other in one launch, each as train.py does: `legs.py LEGS`, a JSON file with a list of
{"name": ..., "settings": [...], "stop_after": steps or null, "again": folder or null}.

A leg that is to stop asks for it as a signal does, once that step is done. `again`: what the leg has restored is saved
again before its first step, and that checkpoint moved to the folder. Only imports and the process group are shared;
everything that a run builds is built anew. Two things that take longer than ten steps are left out: composing the same
settings again (1 s), and the picture (1 s).
"""

import copy
import json
import os
import shutil
import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState, GradientState

from dpo import cli, closing
from dpo.config.compose import Composed, compose_run
from dpo.distributed.world import World
from dpo.trainer import Trainer

LEG: dict[str, Any] = {}
ENVIRONMENT = dict(os.environ)
train, run, close = Trainer.train, Trainer.run, World.close


def train_and_stop(trainer: Trainer) -> None:
    train(trainer)
    if trainer.done.step == LEG["stop_after"]:
        trainer.stop._ask("the leg ends here")


def save_again_and_run(trainer: Trainer) -> None:
    if LEG["again"]:
        trainer.checkpoints._newest = None  # else what was restored is not written again
        trainer.save()
        trainer.checkpoints.finish()
        if trainer.world.is_main:
            kept = trainer.checkpoints.folder / f"step-{trainer.done.step:08d}"
            shutil.copytree(kept, LEG["again"])
    run(trainer)


def leave_open(world: World) -> None:
    """The process group serves the next leg; models and accelerate's choices do not."""
    world.barrier()
    world.watchdog.stop()  # the next leg brings its own
    world.release_models()
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    os.environ.clear()
    os.environ.update(ENVIRONMENT)
    torch.manual_seed(0)  # another generator state than the one an undisturbed run would find


@cache
def composed_once(settings: tuple[str, ...], world_size: int) -> Composed:
    return compose_run(list(settings), world_size)


def compose(settings: list[str], world_size: int) -> Composed:
    """Each run keeps its reference for itself, so that every value is computed and found again."""
    composed = copy.deepcopy(composed_once(tuple(settings), world_size))
    composed.config.name = LEG["name"]
    if composed.config.reference.kind == "cached":
        composed.config.reference.cache_dir = f"{LEG['name']}-cache"
    return composed


cli.compose_run = compose
closing.plot_curves = lambda *_, **__: False
Trainer.train, Trainer.run = train_and_stop, save_again_and_run  # type: ignore[method-assign]
World.close = leave_open  # type: ignore[method-assign]
for leg in json.loads(Path(sys.argv[1]).read_text()):
    LEG.update(leg)
    if code := cli.main(leg["settings"]):
        sys.exit(code)
if torch.distributed.is_initialized():
    torch.distributed.barrier()
# At once: dozens of process groups have been made and dropped, and taking them apart at exit ended with SIGABRT once.
sys.stdout.flush()
sys.stderr.flush()
os._exit(0)
