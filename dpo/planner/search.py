"""The fastest and the cheapest ways to run a job, and the smallest changes that make one fit."""

from dpo.planner.choices import Found, every_way
from dpo.planner.job import Job

BEST = 10
SUGGESTED = 4
WORTH = 0.98  # of the GPU-hours: less of a gain is not worth one more change


def search(job: Job, host_gib: float, goal: str) -> list[Found]:
    """The best ways that fit, best first; on `job.workers` GPUs or any lesser power of two.

    One of each number of GPUs, ZeRO stage and checkpointing, with the row and the sharing that suit it best: others
    would only fill the table.
    """
    chosen: dict[tuple[int, int, bool, str], Found] = {}
    fitting = _fitting(job, host_gib, _powers(job.workers))
    for found in sorted(fitting, key=lambda found: (_cost(found, goal), len(found.overrides))):
        own = found.estimate.job
        chosen.setdefault((own.workers, own.stage, own.offload_optimizer is not None, own.checkpointing), found)
    return list(chosen.values())[:BEST]


def ways_to_fit(job: Job, host_gib: float) -> list[Found]:
    """What makes a job fit on its own workers at the least loss of speed: the best with one change, with two, with
    more; and on more workers when nothing else helps."""
    fitting = _fitting(job, host_gib, [job.workers])
    if not fitting and not job.on_cpu:  # more processes on one CPU share one memory
        fitting = _fitting(job, host_gib, [job.workers * 2**i for i in range(1, 7)])
    chosen: list[Found] = []
    for found in sorted(fitting, key=lambda found: (len(found.overrides), _cost(found, "cheapest"))):
        if not chosen or found.estimate.gpu_hours < WORTH * chosen[-1].estimate.gpu_hours:
            chosen.append(found)
    return chosen[-SUGGESTED:][::-1]


def _fitting(job: Job, host_gib: float, workers: list[int]) -> list[Found]:
    """By more than the error of the prediction; where nothing does, all that fit."""
    fitting = [found for found in every_way(job, host_gib, workers) if found.estimate.fits]
    return [found for found in fitting if found.estimate.roomy] or fitting


def _cost(found: Found, goal: str) -> float:
    return found.estimate.speed.hours if goal == "fastest" else found.estimate.gpu_hours


def _powers(most: int) -> list[int]:
    """`most`, and every power of two below it."""
    return [2**i for i in range(most.bit_length()) if 2**i < most] + [most]
