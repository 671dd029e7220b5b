"""A planned run: memory, time, and whether it fits."""

from dataclasses import dataclass
from functools import cached_property

from dpo.planner.job import Job
from dpo.planner.memory import GIB, Memory, memory
from dpo.planner.speed import Speed, speed

ERROR = 0.05  # of the memory there is (docs/PLANNING.md, predicted against measured)


@dataclass(kw_only=True)
class Estimate:
    """What the planner says about one job, counted when it is asked for: a search looks at memory first."""

    job: Job
    host_gib: float  # memory of a node's host

    @cached_property
    def memory(self) -> Memory:
        return memory(self.job)

    @cached_property
    def speed(self) -> Speed:
        return speed(self.job)

    @property
    def spare_gib(self) -> float:
        """Of the device's memory; negative where it is not enough."""
        return self.job.device.memory_gib - self.memory.peak / GIB

    @property
    def host_spare_gib(self) -> float:
        return self.host_gib - sum(self.memory.host.values()) / GIB

    @property
    def fits(self) -> bool:
        return self.spare_gib >= 0 and self.host_spare_gib >= 0

    @property
    def roomy(self) -> bool:
        """Fits by more than the error of the prediction."""
        return self.fits and self.spare_gib >= ERROR * self.job.device.memory_gib

    @property
    def gpu_hours(self) -> float:
        return self.speed.hours * self.job.workers
