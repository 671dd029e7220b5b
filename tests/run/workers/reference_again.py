"""Looks up and computes the reference three times in one job: `reference_again.py MODEL_FOLDER [OVERRIDES]`.

With an empty cache; with everything changed that has no say in it; with other weights in the same file, of the same
size and time of modification. The log tells what was found. At the end one JSON line per worker: models left in memory.
"""

import gc
import json
import os
import sys
from pathlib import Path

from transformers import PreTrainedModel

from dpo.build_data import build_data
from dpo.build_groups import build_groups
from dpo.build_reference import fill_reference
from dpo.config.compose import compose_run
from dpo.config.derive import derive
from dpo.distributed import launcher
from dpo.log import setup_logging
from dpo.losses.loss import Loss
from dpo.preempt import StopRequest
from dpo.start import start

CHANGED = (
    "loss.beta=0.7",
    "loss.label_smoothing=0.2",
    "optim.lr=1e-3",
    "optim.epochs=3",
    "optim.micro_batch_tokens=400",
)


def main(model: str, *overrides: str) -> None:
    setup_logging(launcher.rank() == 0)
    settings = [f"model.path={model}", "data.demo=30", "output_dir=.", *overrides]
    stop = StopRequest()
    began = start(compose_run(settings, launcher.world_size()), stop)
    for more in ((), CHANGED, ()):
        config = compose_run([*settings, *more], launcher.world_size()).config
        derive(config)
        sets = build_data(config, began.text, began.folder, began.world, stop)
        groups = build_groups(config, sets, Loss(config.loss))
        fill_reference(config, began.source, groups, began.world, stop)
        began.world.barrier()
        if more and began.world.is_main:
            other_weights(Path(model, "model.safetensors"))
        began.world.barrier()
    left = sum(isinstance(thing, PreTrainedModel) for thing in gc.get_objects())
    sys.stdout.write(json.dumps({"rank": began.world.rank, "left": left}) + "\n")
    sys.stdout.flush()
    began.world.close()


def other_weights(file: Path) -> None:
    before = file.stat()
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


main(*sys.argv[1:])
