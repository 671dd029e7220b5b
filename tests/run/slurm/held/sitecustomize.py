"""On the PYTHONPATH of a job: worker 0 of its first start waits before step 3 until the run is asked to stop. So it is
in the middle of training when Slurm's clock says so, on any machine, and takes no processor time."""

import importlib.abc
import importlib.machinery
import os
import sys
import time


class Holding(importlib.abc.MetaPathFinder):
    """Finds dpo.trainer once, to wrap its step."""

    def find_spec(self, name, path, target=None):
        if name != "dpo.trainer":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            hold(module)

        spec.loader.exec_module = exec_module
        return spec


def hold(trainer):
    train = trainer.Trainer.train

    def held(self):
        while self.done.step == 2 and not self.stop.requested():
            time.sleep(0.05)
        train(self)

    trainer.Trainer.train = held


if os.environ.get("RANK") == "0" and "SLURM_RESTART_COUNT" not in os.environ:
    sys.meta_path.insert(0, Holding())
