"""What cannot be right of a submission, before anything waits in a queue."""

import re
from dataclasses import fields

from dpo.config.fields import range_problem
from dpo.config.keys import keys_in_settings
from dpo.config.launch import LaunchConfig
from dpo.deadline import slurm_seconds

VARIABLE = re.compile(r"[A-Za-z_]\w*")
AFTER = re.compile(r"\d+(_\d+)?|singleton|after[a-z]*:[\d_:+]+(,after[a-z]*:[\d_:+]+)*")
MEMORY = re.compile(r"\d+[KMGT]?")


def launch_problems(launch: LaunchConfig) -> list[str]:
    """All of them; those that carry a key alone, since other messages repeat values."""
    listed = {f"sbatch.{i}": text for i, text in enumerate(launch.sbatch)}
    listed |= {f"setup.{i}": text for i, text in enumerate(launch.setup)}
    if keys := keys_in_settings({"launch": {"env": launch.env, **listed}}):
        return keys
    return [*_ranges(launch), *_time(launch), *_forms(launch), *_container(launch)]


def _ranges(launch: LaunchConfig) -> list[str]:
    values = ((f, getattr(launch, f.name)) for f in fields(launch))
    found = ((f.name, value, range_problem(value, f.metadata)) for f, value in values if value is not None)
    return [f"launch.{name}={value}: {problem}" for name, value, problem in found if problem]


def _time(launch: LaunchConfig) -> list[str]:
    if launch.time is None:
        return []
    seconds = slurm_seconds(launch.time)
    if not seconds:
        return [f"launch.time={launch.time}: expected minutes (90), 4:00:00 or 1-12:00:00"]
    if seconds < 2 * launch.notice_seconds:
        return [
            f"launch.time={launch.time}: of so short a time launch.notice_seconds={launch.notice_seconds} leaves less "
            "than half for training: give more time or less notice (what a checkpoint needs, and a minute)"
        ]
    return []


def _forms(launch: LaunchConfig) -> list[str]:
    problems = [
        f"launch.env.{name}: no name of an environment variable" for name in launch.env if not VARIABLE.fullmatch(name)
    ]
    problems += [
        f"launch.sbatch={option}: expected an option of sbatch, --name or --name=value"
        for option in launch.sbatch
        if not option.startswith("-") or "\n" in option
    ]
    if launch.after is not None and not AFTER.fullmatch(launch.after):
        problems.append(f"launch.after={launch.after}: expected a job's number, or afterok:1:2, afterany:1, singleton")
    if launch.memory is not None and not MEMORY.fullmatch(launch.memory):
        problems.append(f"launch.memory={launch.memory}: expected a number with K, M, G or T behind it, as 200G")
    if launch.gpu_type and not launch.gpus_per_node:
        problems.append(f"launch.gpu_type={launch.gpu_type} has no effect with launch.gpus_per_node=0: remove it")
    if launch.gpus_per_node and launch.workers_per_node not in (None, launch.gpus_per_node):
        problems.append(
            f"launch.workers_per_node={launch.workers_per_node}: there is one worker per GPU, and "
            f"launch.gpus_per_node={launch.gpus_per_node}: remove it"
        )
    return problems


def _container(launch: LaunchConfig) -> list[str]:
    if launch.container is None:
        given = launch.container_mounts
        return [f"launch.container_mounts={given} has no effect without launch.container"] if given else []
    if launch.modules and launch.container_runtime == "pyxis":
        return [f"launch.modules={launch.modules} is not there inside a pyxis container: remove it"]
    return []
