"""`launch/submit.py`: settings -> checked -> jobs in Slurm's queue."""

import logging
import shlex
from pathlib import Path

from dpo.config.checks import check, check_device
from dpo.config.checks_launch import launch_problems
from dpo.config.compose import LAUNCH, compose_launch, compose_run
from dpo.config.derive import SLURM_LOGS, derive
from dpo.config.identity import run_name
from dpo.config.launch import LaunchConfig
from dpo.config.sweep import jobs_of
from dpo.errors import ConfigError
from dpo.submit.batch import Batch, workers_per_node
from dpo.submit.queue import show, submit
from dpo.submit.sweep import array_arguments, references

log = logging.getLogger(__name__)

WORK = ("train", "reference", "sweep")
DRY_RUN = "--dry-run"


def run_submit(overrides: list[str], words: list[str]) -> str:
    """What there is to read: the scripts (`--dry-run`), or the commands that watch and end what was submitted.

    Raises:
        ConfigError: all that is wrong with the submission and with the run, before anything is submitted.
        EnvironmentProblem: Slurm is not there, or refuses.
    """
    work = [word for word in words if word != DRY_RUN] or ["train"]
    if len(work) > 1 or work[0] not in WORK:
        raise ConfigError([f"submit {' '.join(work)}: expected {', '.join(WORK)} or nothing, and settings"])
    own = [text for text in overrides if text.partition("=")[0].split(".")[0] == LAUNCH]
    given = [text for text in overrides if text not in own]
    batches, notes = _planned(work[0], own, given)
    for note in notes:
        log.info("%s", note)
    if DRY_RUN in words:
        return show(batches)
    numbers = submit(batches)
    return f"watch: squeue --jobs={','.join(numbers)}\nend:   scancel {' '.join(numbers)}\n"


def _planned(work: str, own: list[str], given: list[str]) -> tuple[list[Batch], list[str]]:
    """(jobs, what to tell). Problems of the submission and of the run come together."""
    launch, problems = LaunchConfig(), []
    try:
        launch = _launch(own)
    except ConfigError as error:
        problems += error.problems
    try:
        planned = _sweep(given, launch) if work == "sweep" else _single(work, given, launch)
    except ConfigError as error:
        problems += error.problems
    if problems:
        raise ConfigError(problems)
    return planned


def _launch(own: list[str]) -> LaunchConfig:
    launch = compose_launch(own)
    if problems := launch_problems(launch):
        raise ConfigError(problems)
    return launch


def _single(work: str, given: list[str], launch: LaunchConfig) -> tuple[list[Batch], list[str]]:
    composed = compose_run(given, launch.nodes * workers_per_node(launch))
    config = composed.config
    check(config)
    check_device(config, _device(launch), [])
    notes = [*composed.notes, *derive(config)]
    name = run_name(config)
    if work == "reference":
        return [_batch(f"reference-{name}", [work, *given], launch, config.output_dir)], notes
    # Named now: should a file of the data change in the meantime, the requeued job would begin another run.
    named = given if config.name else [*given, f"name={name}"]
    return [_batch(name, named, launch, config.output_dir)], [*notes, f"run: {Path(config.output_dir) / name}"]


def _sweep(given: list[str], launch: LaunchConfig) -> tuple[list[Batch], list[str]]:
    """The reference of all its runs, then the runs, as one array."""
    jobs = jobs_of(given)
    for job in jobs:
        check_device(job.config, _device(launch), [])
    sweep, folder = jobs[0].sweep, Path(jobs[0].config.output_dir)
    batches = [
        _batch(f"{sweep}-reference-{i}", ["reference", *settings], launch, str(folder))
        for i, settings in enumerate(references(jobs))
    ]
    array = _batch(sweep, array_arguments(jobs), launch, str(folder))
    array.script, array.array = "sweep.sbatch", len(jobs)
    compare = shlex.join(["python", "-m", "dpo", "compare", *(str(folder / job.name) for job in jobs)])
    return [*batches, array], [f"sweep: {len(jobs)} runs; to compare them when they are done:", compare]


def _batch(name: str, arguments: list[str], launch: LaunchConfig, output_dir: str) -> Batch:
    kept = Path(output_dir).absolute() / SLURM_LOGS / "%x-%j.log"
    return Batch(name=name, launch=launch, arguments=arguments, log=launch.log or str(kept))


def _device(launch: LaunchConfig) -> str:
    return "cuda" if launch.gpus_per_node else "cpu"
