"""How far a run has come."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from dpo.data.plan import StepPlan


@dataclass(kw_only=True, slots=True)
class Progressed:
    """How far the run has come: what a checkpoint keeps besides weights and moments."""

    step: int = 0  # steps of the data plan done, applied or not
    pairs: int = 0  # trained on
    tokens: int = 0  # prompts once, responses each, no padding
    evaluated: int = -1  # step of the last evaluation; a run that was stopped in one owes it
    reference_syncs: int = 0  # moves of a moving reference
    skipped: int = 0  # steps that were not applied: bad ones, and under fp16 those that only needed a smaller scale
    bad: int = 0  # steps whose loss or gradient was not finite
    bad_since: int | None = None  # where the bad steps in a row began that the last one belongs to
    rollbacks: int = 0

    def count(self, plan: StepPlan, applied: bool, bad: bool) -> None:
        if bad and self.bad_since is None:
            self.bad_since = self.step
        elif not bad:
            self.bad_since = None
        self.step += 1
        self.bad += bad
        self.skipped += not applied
        if applied:
            self.pairs += plan.counts.pairs
            self.tokens += plan.counts.tokens

    @property
    def bad_in_a_row(self) -> int:
        return 0 if self.bad_since is None else self.step - self.bad_since

    def before_bad(self) -> None:
        """Back to where the bad steps in a row began. None was applied, so the weights are those of that point."""
        n = self.bad_in_a_row
        self.step, self.bad, self.skipped, self.bad_since = self.step - n, self.bad - n, self.skipped - n, None
        self.evaluated = min(self.evaluated, self.step)

    def after_rollback(self, now: "Progressed") -> None:
        """With what was trained taken from a checkpoint, and all else as it is `now`."""
        self.step, self.evaluated, self.skipped, self.bad = now.step, now.evaluated, now.skipped, now.bad
        self.bad_since, self.rollbacks = None, now.rollbacks + 1

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for f in fields(self):
            setattr(self, f.name, state[f.name])
