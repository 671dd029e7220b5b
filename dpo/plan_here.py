"""The plan of a run that starts on this machine: told in one line, and refused where it cannot fit."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from dpo.available_memory import available_gib
from dpo.build_plan import Machines, job_of
from dpo.config.schema import RunConfig
from dpo.data.groups import Groups
from dpo.distributed.world import World
from dpo.errors import EnvironmentProblem
from dpo.model.shape import architecture_of
from dpo.model.source import ModelSource
from dpo.planned_lengths import measured_lengths, planned_lengths
from dpo.planner.architecture import Architecture
from dpo.planner.devices import GPUS, Device, cpu_worker
from dpo.planner.estimate import Estimate
from dpo.planner.job import Job, Lengths
from dpo.planner.room import require_room
from dpo.planner.search import ways_to_fit
from dpo.planner.text import short

log = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True)
class PlanHere:
    """The plan of a run on the machine that it starts on. No fault of the planner stops a run that may well fit: then
    nothing is said. `model`: None on other workers than the main one, and where no structure could be built."""

    config: RunConfig
    model: Architecture | None
    device: Device
    workers: int
    workers_here: int

    @classmethod
    def of(cls, config: RunConfig, source: ModelSource, world: World) -> "PlanHere":
        model, here = None, int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        with _harmless():
            model = architecture_of(source.config(), source) if world.is_main else None
        device = _device_here(world.device, here)
        return cls(config=config, model=model, device=device, workers=world.size, workers_here=here)

    def require_room(self) -> None:
        """Stop a run whose weights, gradients and optimizer alone need more memory than its workers have.

        Raises:
            EnvironmentProblem: with what would make it fit. Not with plan.force.
        """
        if self.model is None or self.config.plan.force:
            return
        with _harmless():
            job = self._job(self.model, planned_lengths(self.config))
            require_room(job, lambda: ways_to_fit(job, self._host_gib()))

    def tell(self, train: Groups, held_out: int) -> None:
        """The short form in the log, once the lengths of the pairs are known. `held_out`: pairs."""
        if self.model is None:
            return
        with _harmless():
            job = self._job(self.model, measured_lengths(train, held_out))
            log.info("%s", short(Estimate(job=job, host_gib=self._host_gib())))

    def _job(self, model: Architecture, lengths: Lengths) -> Job:
        return job_of(self.config, model, Machines(self.device, self.workers, self.workers_here), lengths)

    def _host_gib(self) -> float:
        return available_gib(torch.device("cpu"), 1)


@contextmanager
def _harmless() -> Iterator[None]:
    """What is wrong with the run is raised; a model that nobody has thought of is not."""
    try:
        yield
    except EnvironmentProblem:
        raise
    except Exception:
        log.debug("no plan for this run", exc_info=True)


def _device_here(device: torch.device, workers_here: int) -> Device:
    memory_gib = available_gib(device, workers_here)
    if device.type != "cuda":
        return cpu_worker(memory_gib)
    name = torch.cuda.get_device_name(device).lower()
    like = [gpu for gpu in GPUS.values() if gpu.name.split("-")[0] in name.replace(" ", "")]
    nearest = min(like or GPUS.values(), key=lambda gpu: abs(gpu.memory_gib - memory_gib))
    return replace(nearest, name=nearest.name if like else "GPU", memory_gib=memory_gib)
