"""Settings with several values each -> one run per combination, all composed and checked before the first starts.

Hydra's own multirun stays in one process, where DeepSpeed can be set up once: here every run is a launch of its own.
"""

import re
from dataclasses import dataclass
from itertools import product

from dpo.config.checks import check
from dpo.config.compose import choices, compose_run, parse_sweep
from dpo.config.schema import RunConfig
from dpo.errors import ConfigError

NAME = "sweep"  # of a sweep that is given none


@dataclass(kw_only=True, slots=True)
class Job:
    """One run of a sweep."""

    sweep: str  # name of all
    name: str  # with what is particular to this one: sweep-ipo-beta0.1
    overrides: list[str]  # settings as on the command line, the name included
    config: RunConfig


def jobs_of(overrides: list[str]) -> list[Job]:
    """One per combination, the last setting changing fastest.

    Raises:
        ConfigError: nothing has several values; or what is wrong with any of the runs, all of it.
    """
    spread = parse_sweep(overrides)
    swept = [key for key, texts in spread if len(texts) > 1]
    if not swept:
        raise ConfigError(
            ["nothing to sweep over: give a setting several values, as in loss=sigmoid,ipo loss.beta=0.1,0.5"]
        )
    jobs: list[Job] = []
    problems: dict[str, list[str]] = {}  # what -> the runs that it is wrong with
    for texts in product(*(texts for _, texts in spread)):
        values = {key: text.partition("=")[2] for (key, _), text in zip(spread, texts, strict=True) if key in swept}
        try:
            jobs.append(_job(list(texts), values))
        except ConfigError as error:
            for problem in error.problems:
                problems.setdefault(problem, []).append(", ".join(f"{k}={v}" for k, v in values.items()))
    if problems:
        raise ConfigError([f"{problem} (in {_runs(where)})" for problem, where in problems.items()])
    return jobs


def _job(texts: list[str], values: dict[str, str]) -> Job:
    base = compose_run(texts, 1).config.name or NAME
    groups = choices()
    parts = [value if key in groups else f"{key.rpartition('.')[2]}{value}" for key, value in values.items()]
    name = re.sub(r"[^\w.-]+", "_", "-".join([base, *parts]))
    own = [text for text in texts if not text.startswith("name=")] + [f"name={name}"]
    config = compose_run(own, 1).config
    check(config)
    return Job(sweep=base, name=name, overrides=own, config=config)


def _runs(where: list[str]) -> str:
    return where[0] if len(where) == 1 else f"{where[0]} and {len(where) - 1} more"
