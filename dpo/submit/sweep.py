"""Which jobs a sweep needs: the reference first, once, then an array of its runs."""

import json

from dpo.config.compose import as_dict
from dpo.config.derive import derive
from dpo.config.identity import identity
from dpo.config.schema import RunConfig
from dpo.config.sweep import Job
from dpo.losses.loss import Loss

NEXT = "--"  # between the settings of two runs, in the arguments of launch/slurm/sweep.sbatch
# Of what decides a result, this decides nothing of the reference's values.
OTHER = ("loss.", "optim.", "adapter.")


def array_arguments(jobs: list[Job]) -> list[str]:
    return [word for job in jobs for word in (NEXT, *job.overrides)]


def references(jobs: list[Job]) -> list[list[str]]:
    """Settings for `python -m dpo reference`, one list for each set of reference values that the runs look for. Started
    together they would compute all of them as often as there are runs."""
    found: dict[str, list[str]] = {}
    for job in jobs:
        derive(job.config)
        if job.config.reference.kind == "cached":
            found.setdefault(_key(job.config), job.overrides)
    return list(found.values())


def _key(config: RunConfig) -> str:
    deciding = {k: v for k, v in identity(as_dict(config)).items() if not k.startswith(OTHER)}
    return json.dumps([deciding, Loss(config.loss).needs_mismatched], sort_keys=True, default=str)
