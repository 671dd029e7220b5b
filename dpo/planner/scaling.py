"""One run on more and more GPUs: where communication takes over, on paper."""

from dataclasses import dataclass, replace

from dpo.planner.choices import Found, every_way
from dpo.planner.estimate import Estimate
from dpo.planner.job import Job

GPUS = (8, 16, 32, 64, 128, 256, 512, 1024)


@dataclass(kw_only=True, slots=True)
class Scaled:
    """The run on a number of GPUs, as it is set and as it would be best set there."""

    gpus: int
    own: Estimate
    best: Found | None  # None: nothing fits by more than the error of the prediction


def scaling(job: Job, host_gib: float) -> list[Scaled]:
    """The global batch stays what it is, as it decides the result: more GPUs share the same pairs."""
    return [_scaled(job, host_gib, gpus) for gpus in GPUS]


def _scaled(job: Job, host_gib: float, gpus: int) -> Scaled:
    roomy = [found for found in every_way(job, host_gib, [gpus]) if found.estimate.roomy]
    return Scaled(
        gpus=gpus,
        own=Estimate(job=replace(job, workers=gpus), host_gib=host_gib),
        best=min(roomy, key=lambda found: found.estimate.speed.hours, default=None),
    )
