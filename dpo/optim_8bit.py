"""AdamW whose moments take one byte each (Dettmers et al. 2022, arXiv:2110.02861), by bitsandbytes: blocks of 256
values share a scale, a table of 256 levels holds the rest. Checkpoints hold them as float32.

The only importer of bitsandbytes; loaded when `optim=adamw_8bit` asks for it.
"""

from typing import Any

import torch
from bitsandbytes.optim import AdamW
from torch import Tensor

BLOCK = 256  # values that share a scale
CODES = {"exp_avg": ("state1", "absmax1", "qmap1"), "exp_avg_sq": ("state2", "absmax2", "qmap2")}


class AdamW8bit(AdamW):
    """Moments of matrices in 8 bits, those of norms, biases and anything under 4096 values in 32.

    The groups say which is which: under ZeRO the vectors of a model lie in one long tensor.
    """

    def __init__(self, groups: list[dict[str, Any]], **settings: Any):
        super().__init__(groups, optim_bits=8, **settings)

    def get_config(self, gindex: int, pindex: int, group: dict[str, Any]) -> dict[str, Any]:
        return {**super().get_config(gindex, pindex, group), "optim_bits": 8 if group["matrices"] else 32}


class Moment:
    """One moment of a flat tensor, read as float32 part by part: never whole, that would cost what was saved."""

    def __init__(self, state: dict[str, Any], name: str):
        codes, scales, levels = CODES[name]
        self.codes = state[codes].flatten()
        self.scales: Tensor | None = state.get(scales)  # None: this one stays in 32 bits
        self.levels: Tensor | None = state.get(levels)

    def narrow(self, dim: int, start: int, length: int) -> Tensor:
        """Elements start ... start + length - 1 as float32, in the manner of `Tensor.narrow` with dim = 0."""
        part = self.codes.narrow(dim, start, length)
        if self.scales is None or self.levels is None:
            return part
        blocks = torch.arange(start, start + length, device=part.device) // BLOCK
        return self.levels[part.int()] * self.scales[blocks]

    def whole(self) -> Tensor:
        return self.narrow(0, 0, self.codes.numel())


def compress(
    optimizer: torch.optim.Optimizer, group: int, parameter: Tensor, moments: dict[str, Tensor], step: int
) -> dict[str, Any]:
    """Set the optimizer's state of `parameter` (of parameter group `group`) from float32 moments, zero without any.
    What was read from 8 bits gets its own codes back."""
    assert isinstance(optimizer, AdamW8bit)
    owner = optimizer.param_groups[group]
    held, owner["params"] = owner["params"], [parameter]  # ZeRO 3 leaves its groups empty between steps
    optimizer.init_state(owner, parameter, group, 0)
    owner["params"] = held
    state = optimizer.state[parameter]
    state["step"] = step
    for name, moment in moments.items():
        codes, scales, levels = CODES[name]
        if scales in state:
            found, state[scales] = _quantize(moment.flatten().float(), state[levels])
            state[codes].copy_(found.view_as(state[codes]))
        else:
            state[codes].copy_(moment.view_as(state[codes]))
    return state


def _quantize(values: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
    """(codes, scales): every value by the nearest level of its block.

    bitsandbytes scales a block by its largest magnitude. The lowest level is -0.993, not -1, so that a block led by a
    negative value would shrink by 0.7 % each time it is read and written: here its scale is found from that level.
    """
    blocks = torch.nn.functional.pad(values, (0, -len(values) % BLOCK)).view(-1, BLOCK)
    scales = blocks.amax(1) / levels[-1]
    if levels[0] < 0:
        scales = torch.maximum(scales, blocks.amin(1) / levels[0])
    normalised = blocks / torch.where(scales > 0, scales, 1)[:, None]
    codes = torch.bucketize(normalised, (levels[1:] + levels[:-1]) / 2)
    return codes.flatten()[: len(values)].to(torch.uint8), scales
