"""Whether a run can fit at all into the machine that it starts on."""

from collections.abc import Callable

from dpo.errors import EnvironmentProblem
from dpo.planner.choices import Found
from dpo.planner.memory import GIB, Memory

# Over by so much, the sum of what is certain cannot fit: what is counted as available is an estimate of the kernel's.
MARGIN = 1.05


def require_room(memory: Memory, available_gib: float, what: str, ways: Callable[[], list[Found]]) -> None:
    """Of what one worker holds only weights, gradients and optimizer count here: all else is estimated. `ways`: looks
    for changes that make it fit, which takes a second.

    Raises:
        EnvironmentProblem: they alone need more than there is, with what would make the run fit.
    """
    certain = memory.certain / GIB
    if certain <= available_gib * MARGIN:
        return
    cures = "; ".join(" ".join(found.overrides) for found in ways()) or "adapter=lora, more workers or a larger machine"
    raise EnvironmentProblem(
        f"this run cannot fit: weights, gradients and optimizer alone need {certain:.1f} GiB per worker, and {what} "
        f"has {available_gib:.1f} GiB for each. What would fit: {cures}. plan.force=true starts it all the same."
    )
