"""Settings of `python -m dpo doctor`, and the names of its checks."""

from dataclasses import dataclass, field

from dpo.config.fields import number

# In the order of the report. dpo/doctor/table.py has one function for each.
CHECKS = (
    "versions",
    "gpus",
    "driver",
    "allreduce",
    "compiler",
    "disk",
    "shm",
    "limits",
    "memory",
    "cpus",
    "host",
    "proxies",
    "wandb",
    "hub",
    "clock",
)


@dataclass(kw_only=True, slots=True)
class DoctorConfig:
    """What is looked at before a job, and what is expected."""

    checks: list[str] = field(default_factory=list)  # names of checks; []: all of them
    path: str | None = None  # folder whose disk is measured; null: output_dir
    gpus: int | None = number(None, low=0)  # GPUs that the node must have; null: any number, none too
    free_gb: float = number(20.0, low=0)  # room that must be left at `path`; a checkpoint takes 12 bytes per weight
    strict: bool = False  # warnings fail as well
    json: str | None = None  # file for the findings; "-": on stdout, instead of the lines
