"""What a check says, and what it is told beforehand."""

from dataclasses import dataclass, field
from pathlib import Path

OK, WARN, FAIL = "ok", "warn", "fail"


@dataclass(kw_only=True, slots=True)
class Finding:
    """One line of the report."""

    level: str  # ok, warn or fail
    text: str  # what was found, and where it is not enough, what was expected
    cure: str = ""  # what to do about it


@dataclass(kw_only=True, slots=True)
class Job:
    """What the run that is to start here asks of its node."""

    path: Path  # it writes here
    free_gb: float = 0.0  # that must be left there
    nvme_path: Path | None = None  # its state goes here
    gpus: int | None = None  # it expects so many
    offload: bool = False  # DeepSpeed compiles an optimizer for the host
    wandb: str = "auto"  # off, offline, online or auto
    models: list[str] = field(default_factory=list)  # folders or hub names
    data: list[str] = field(default_factory=list)


def ok(text: str) -> Finding:
    return Finding(level=OK, text=text)


def warn(text: str, cure: str) -> Finding:
    return Finding(level=WARN, text=text, cure=cure)


def fail(text: str, cure: str) -> Finding:
    return Finding(level=FAIL, text=text, cure=cure)
