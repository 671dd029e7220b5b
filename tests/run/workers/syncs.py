"""Trains as train.py does and counts, from the second step on, whatever makes the host wait for the device.

Prints `FOUND {"ours": {"file:function": n}, "theirs": {...}, "collectives": {...}, "steps": n, "micro_batches": n}`.
"""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from dpo import cli
from dpo.distributed import launcher
from dpo.trainer import Trainer

PACKAGE = Path(cli.__file__).parent
TORCH = Path(torch.__file__).parent
# What has to know a value, or how many there are. On a GPU each waits until the device has caught up.
OPERATORS = {
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.is_nonzero.default,
    torch.ops.aten.nonzero.default,
    torch.ops.aten.masked_select.default,
    torch.ops.aten._unique2.default,
    torch.ops.aten.equal.default,
}
COPIES = {torch.Tensor.tolist, torch.Tensor.cpu, torch.Tensor.numpy}  # these read the host's memory on a CPU


class Counts:
    def __init__(self) -> None:
        self.ours: Counter[str] = Counter()
        self.theirs: Counter[str] = Counter()
        self.collectives: Counter[str] = Counter()
        self.micro_batches = 0

    def add(self) -> None:
        """Charge the innermost caller that is neither torch nor this file. dpo/data sees host memory only."""
        frame: Any = sys._getframe()
        while (file := Path(frame.f_code.co_filename)) == Path(__file__) or TORCH in file.parents:
            frame = frame.f_back
        if PACKAGE / "data" in file.parents:
            return
        mine = PACKAGE in file.parents
        (self.ours if mine else self.theirs)[f"{file.name}:{frame.f_code.co_name}"] += 1


COUNTS = Counts()


class Operators(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        masked = func is torch.ops.aten.index.Tensor and any(
            i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1]
        )
        if func in OPERATORS or masked:
            COUNTS.add()
        return func(*args, **(kwargs or {}))


class Copies(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in COPIES:
            COUNTS.add()
        return func(*args, **(kwargs or {}))


def count_collectives() -> None:
    """Those of this project: a call of torch.distributed straight from it."""
    for name in ("all_reduce", "all_gather_into_tensor", "all_gather_object", "barrier", "broadcast"):
        original = getattr(dist, name)

        def counted(*args: Any, name: str = name, original: Any = original, **kwargs: Any) -> Any:
            caller = sys._getframe(1)
            if PACKAGE in Path(caller.f_code.co_filename).parents and COUNTING:
                group = ", control group" if kwargs.get("group") is not None else ""
                COUNTS.collectives[f"{caller.f_code.co_name}{group}"] += 1
            return original(*args, **kwargs)

        setattr(dist, name, counted)


COUNTING: list[Any] = []
train, on_device = Trainer.train, Trainer._on_device


def watched(trainer: Trainer) -> None:
    """The first step is not counted, and counting ends with the last one, before what follows it."""
    if trainer.done.step == 1:
        COUNTING.extend((Operators(), Copies()))
        for mode in COUNTING:
            mode.__enter__()
    train(trainer)
    if trainer.done.step == trainer.total_steps:
        for mode in reversed(COUNTING):
            mode.__exit__(None, None, None)
        COUNTING.clear()


def counted_batches(trainer: Trainer, *args: Any) -> Any:
    for batch in on_device(trainer, *args):
        COUNTS.micro_batches += bool(COUNTING)
        yield batch


Trainer.train, Trainer._on_device = watched, counted_batches  # type: ignore[method-assign]
count_collectives()
code = cli.main(sys.argv[1:])
if launcher.rank() == 0:
    sys.stdout.write(f"FOUND {json.dumps(vars(COUNTS))}\n")
sys.exit(code)
