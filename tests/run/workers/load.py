"""Loads a model in the given way and prints what it took: `load.py sharded|whole FOLDER`.

One JSON line per worker: peak resident memory in bytes above that before the load, and sums of some weights.
"""

import json
import sys
from pathlib import Path

import torch

from dpo.config.compose import compose_run
from dpo.distributed import launcher
from dpo.distributed.placement import Placement, whole
from dpo.distributed.world import start_world
from dpo.model.load import load_causal_lm
from dpo.model.source import ModelSource


def memory(field: str) -> int:
    """VmRSS or VmHWM (its peak), pages of mapped files included."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def main(way: str, folder: str) -> None:
    zero = "zero3" if way == "sharded" else "off"
    config = compose_run([f"zero={zero}", f"model.path={folder}"], launcher.world_size()).config
    world = start_world(config.zero, config.optim, config.precision)
    if way == "sharded":
        import deepspeed  # noqa: F401 - its import is not part of the load

        warm_up(world)
    source = ModelSource(path=folder, revision=None, build=None, trust_remote_code=False, seed=0)
    source.config()
    world.barrier()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = memory("VmRSS")
    model = load_causal_lm(source, Placement(world, "policy"))
    peak = memory("VmHWM") - before
    sums = {}
    for name, parameter in model.named_parameters():
        with whole([parameter]):
            sums[name] = parameter.double().sum().item()
    found = {"rank": world.rank, "peak": peak, "sums": sums, "sharded": hasattr(parameter, "ds_id")}
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()
    world.close()


def warm_up(world) -> None:  # type: ignore[no-untyped-def]
    """DeepSpeed's and gloo's first use takes memory of its own."""
    with Placement(world, "policy").building():
        torch.nn.Linear(64, 64)


main(*sys.argv[1:])
