"""python -m dpo with a slow reference whose every row is kept at once, as if each took half a minute."""

import sys
import time

import torch

import dpo.reference.compute as compute
from dpo.cli import command_line
from dpo.data.batch import Batch
from dpo.model.reference import FrozenReference

compute.FLUSH_SECONDS = -1.0
right = FrozenReference.logps


def slow(self: FrozenReference, batch: Batch) -> torch.Tensor:
    time.sleep(0.3)
    return right(self, batch)


FrozenReference.logps = slow
sys.exit(command_line(sys.argv[1:]))
