"""The micro-batches of the coming steps, prepared on a thread while the model computes."""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from dpo.data.batch import Batch, PromptGroup
from dpo.data.groups import PromptGroups
from dpo.data.plan import DataPlan, StepPlan
from dpo.data.rows import MicroBatches, spread_groups

AHEAD = 2  # steps; one would do, the second covers a step that is prepared slowly


@dataclass(kw_only=True, slots=True)
class PreparedStep:
    """What one worker computes in one optimizer step."""

    plan: StepPlan
    batches: list[Batch]  # its micro-batches, on the CPU; equally many on every worker
    mismatched: list[Batch]  # the step's prompts with answers to other prompts, likewise; empty unless a loss asks


@dataclass(kw_only=True, slots=True)
class Loader:
    """This worker's share of every step. Only its thread walks through the plan, so that no lock is needed."""

    plan: DataPlan
    micro: MicroBatches
    worker: int  # which of the `micro.world_size` shares
    pin: bool  # page-locked memory, for a GPU
    total_steps: int
    mismatched: PromptGroups = field(default_factory=list)  # of every group of the plan
    _thread: ThreadPoolExecutor = field(
        init=False, default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="loader")
    )
    _coming: dict[int, Future[PreparedStep]] = field(init=False, default_factory=dict)

    def step(self, step: int) -> PreparedStep:
        """Step `step`, and begin with the ones behind it. Raises what preparing it raised."""
        for number in range(step, min(step + 1 + AHEAD, max(self.total_steps, step + 1))):
            if number not in self._coming:
                self._coming[number] = self._thread.submit(self._prepare, number)
        prepared = self._coming.pop(step).result()
        self._coming = {number: future for number, future in self._coming.items() if number > step}
        return prepared

    def _prepare(self, step: int) -> PreparedStep:
        plan = self.plan.step(step)
        return PreparedStep(
            plan=plan,
            batches=self._batches(plan.members),
            mismatched=self._batches([self.mismatched[g] for g in plan.groups]) if len(self.mismatched) else [],
        )

    def _batches(self, groups: list[PromptGroup]) -> list[Batch]:
        batches = [self.micro.collate(row) for row in spread_groups(groups, self.micro)[self.worker]]
        return [batch.pin() for batch in batches] if self.pin else batches
