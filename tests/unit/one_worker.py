"""A world of one worker, without accelerate."""

from types import SimpleNamespace

import torch

from dpo.distributed.world import World


def world() -> World:
    accelerator = SimpleNamespace(free_memory=lambda: None)
    return World(accelerator=accelerator, rank=0, size=1, device=torch.device("cpu"), zero=0, precision="fp32")
