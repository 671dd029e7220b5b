"""A planned run: memory, time, and whether it fits."""

from dataclasses import dataclass

from dpo.planner.job import Job
from dpo.planner.memory import GIB, Memory, memory
from dpo.planner.speed import Speed, speed


@dataclass(kw_only=True, slots=True)
class Estimate:
    """What the planner says about one job."""

    job: Job
    host_gib: float  # memory of a node's host
    memory: Memory
    speed: Speed

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
    def gpu_hours(self) -> float:
        return self.speed.hours * self.job.workers


def estimate(job: Job, host_gib: float) -> Estimate:
    return Estimate(job=job, host_gib=host_gib, memory=memory(job), speed=speed(job))
