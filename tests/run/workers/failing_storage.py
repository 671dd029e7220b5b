"""Trains as train.py does on storage that fails between two steps and works again later.

Arguments: full | read_only | gone, the mounted folder, then those of train.py. Prints `DURING [...]`: the checkpoints
that are whole in the middle of the failure, by name. `stopped`: full, and asked to stop before it works again.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from dpo import cli
from dpo.checkpoint.retain import whole_in
from dpo.distributed import launcher
from dpo.trainer import Trainer

BREAKS_AFTER, STOPS_AFTER, HEALS_AFTER = 6, 9, 14  # steps; with checkpoint.every=4 those of 8 and 12 fall between
KIND, MOUNT = sys.argv[1], Path(sys.argv[2])
FILLER = MOUNT / "filler"
train = Trainer.train


def run(*command: str) -> None:
    subprocess.run(command, check=True)


def fill() -> None:
    with FILLER.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 2**16):
                pass
        except OSError:
            return


def break_it(trainer: Trainer) -> None:
    if KIND in ("full", "stopped"):
        fill()
    elif KIND == "read_only":
        trainer.recorder.metrics.close()  # its next record opens the file again, and cannot
        # In front of the file system, which does not become read-only itself while the run's lock is open in it.
        run("mount", "--bind", str(MOUNT), str(MOUNT))
        run("mount", "-o", "remount,bind,ro", str(MOUNT))
    else:
        run("umount", "--lazy", str(MOUNT))


def heal() -> None:
    if KIND == "full":
        FILLER.unlink()
    elif KIND == "read_only":
        run("umount", str(MOUNT))
    else:
        run("mount", "--bind", f"{MOUNT}.real", str(MOUNT))


def say(trainer: Trainer) -> None:
    folder = Path(f"{MOUNT}.real", "run", "checkpoints") if KIND == "gone" else trainer.checkpoints.folder
    found = [checkpoint.folder.name for checkpoint in whole_in(folder, read=True)]
    left = sorted(path.name for path in MOUNT.iterdir()) if KIND == "gone" else []
    sys.stdout.write(f"DURING {json.dumps(found + left)}\n")


def watched(trainer: Trainer) -> None:
    if KIND == "stopped" and trainer.done.step == STOPS_AFTER:
        os.kill(os.getpid(), signal.SIGTERM)
    if trainer.done.step in (BREAKS_AFTER, HEALS_AFTER):
        trainer.checkpoints.finish()
        trainer.world.barrier()
        if launcher.rank() == 0 and trainer.done.step == BREAKS_AFTER:
            break_it(trainer)
        elif launcher.rank() == 0:
            say(trainer)
            heal()
        trainer.world.barrier()
    train(trainer)


Trainer.train = watched  # type: ignore[method-assign]
sys.exit(cli.main(sys.argv[3:]))
