"""train.py with a fault put in: the reference's weights are not the policy's start (each is 1 % larger)."""

import sys

import torch

from dpo.cli import main
from dpo.model.reference import FrozenReference

right = FrozenReference.__init__


def disturbed(self: FrozenReference, scorer: torch.nn.Module) -> None:
    right(self, scorer)
    with torch.no_grad():
        for parameter in scorer.parameters():
            parameter.mul_(1.01)


FrozenReference.__init__ = disturbed
sys.exit(main(sys.argv[1:]))
