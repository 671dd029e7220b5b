"""What a run of an experiment ends with: settings of no effect on the run, for `python -m dpo verify`."""

from dataclasses import dataclass, field


@dataclass(kw_only=True, slots=True)
class Band:
    """Where a number is expected, both ends included."""

    low: float
    high: float


@dataclass(kw_only=True, slots=True)
class ExpectConfig:
    """Published or measured numbers of an experiment, to tell whether a run reproduces it."""

    experiment: str | None = None  # the file of conf/experiment that says so
    held_out: dict[str, Band] = field(default_factory=dict)  # metric of the last held-out record -> its band
