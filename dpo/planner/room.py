"""Whether a run can fit at all into the machine that it starts on."""

from collections.abc import Callable

from dpo.errors import EnvironmentProblem
from dpo.planner.choices import Found
from dpo.planner.job import Job
from dpo.planner.memory import GIB, memory

# Over by so much, the sum of what is certain cannot fit: what is counted as available is an estimate of the kernel's.
MARGIN = 1.05
NAMED = 2  # ways out


def require_room(job: Job, ways: Callable[[], list[Found]]) -> None:
    """Of what one worker holds only weights, gradients and optimizer count here: all else is estimated. `ways`: looks
    for changes that make it fit, which takes a second.

    Raises:
        EnvironmentProblem: they alone need more than there is, with what would make the run fit.
    """
    certain, there = memory(job).certain / GIB, job.device.memory_gib
    if certain <= there * MARGIN:
        return
    cures = [_cure(found) for found in ways()[:NAMED]] or ["adapter=lora, more workers or a larger machine"]
    where = "this machine" if job.on_cpu else "a GPU here"
    raise EnvironmentProblem(
        f"this run cannot fit: weights, gradients and optimizer alone need {certain:.1f} GiB per worker, and {where} "
        f"has {there:.1f} GiB for each. What would fit: {'; or '.join(cures)}. plan.force=true starts it all the same."
    )


def _cure(found: Found) -> str:
    """The number of workers is the launcher's to set."""
    return " ".join(
        f"{text.removeprefix('plan.gpus=')} workers" if text.startswith("plan.gpus=") else text
        for text in found.overrides
    )
