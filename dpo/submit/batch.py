"""The batch script of a job: options of sbatch, what the job sets up, and the launch with its settings."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from dpo.config.launch import LaunchConfig

SCRIPTS = Path(__file__).parents[2] / "launch" / "slurm"
CPU_WORKERS = 2  # per node, as launch/local.sh starts where there is no GPU
# Files that are written while others read them, or mapped into memory: slow and fragile on network file systems.
CACHES = {
    "TORCH_EXTENSIONS_DIR": "torch_extensions",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
    "CUDA_CACHE_PATH": "cuda",
}
NO_VARIABLE = re.compile(r"\$(?![A-Za-z_]|\{[A-Za-z_]\w*\})")


@dataclass(kw_only=True, slots=True)
class Batch:
    """One job, or an array of them, before it has a number."""

    name: str
    launch: LaunchConfig
    script: str = "train.sbatch"  # of launch/slurm
    arguments: list[str]  # of that script
    log: str  # file; %x, %j, %A and %a stand for the job's name and numbers
    array: int = 0  # jobs in it; 0: no array


def workers_per_node(launch: LaunchConfig) -> int:
    return launch.workers_per_node or launch.gpus_per_node or CPU_WORKERS


def text_of(batch: Batch, after: str | None = None) -> str:
    """The whole script. `after`: a dependency, as sbatch writes it."""
    options = [f"#SBATCH {option}" for option in _options(batch, after)]
    words = [shlex.quote(word) for word in (str(SCRIPTS / batch.script), *batch.arguments)]
    return "\n".join(["#!/usr/bin/env bash", *options, *_set_up(batch.launch), "exec " + " \\\n  ".join(words)]) + "\n"


def _options(batch: Batch, after: str | None) -> list[str]:
    launch = batch.launch
    gpus = f"{launch.gpu_type}:{launch.gpus_per_node}" if launch.gpu_type else launch.gpus_per_node
    given: dict[str, object] = {
        "job-name": batch.name,
        "array": f"0-{batch.array - 1}" if batch.array else None,
        "partition": launch.partition,
        "account": launch.account,
        "qos": launch.qos,
        "constraint": launch.constraint,
        "nodes": launch.nodes,
        "ntasks-per-node": 1,  # the launcher, which starts the workers
        "gpus-per-node": gpus or None,
        "cpus-per-task": launch.cpus_per_node,
        "mem": launch.memory,
        "time": launch.time,
        "signal": f"B:USR1@{launch.notice_seconds}",
        "dependency": after,
        "output": batch.log,
        "open-mode": "append",  # a requeued job writes on
    }
    options = [f"--{name}={shlex.quote(str(value))}" for name, value in given.items() if value is not None]
    flags = ["--requeue", *(["--exclusive"] if launch.exclusive else []), *launch.sbatch]
    return [*options, *flags, *(["--kill-on-invalid-dep=yes"] if after else [])]


def _set_up(launch: LaunchConfig) -> list[str]:
    variables = {"MAX_REQUEUES": str(launch.max_requeues), "NPROC": str(workers_per_node(launch))}
    if launch.container:
        variables |= {"CONTAINER": launch.container, "CONTAINER_RUNTIME": launch.container_runtime}
        mounts = [mount if ":" in mount else f"{mount}:{mount}" for mount in launch.container_mounts]
        variables |= {"CONTAINER_MOUNTS": ",".join(mounts)} if mounts else {}
    if launch.node_cache:
        variables |= {name: f"{launch.node_cache}/{folder}" for name, folder in CACHES.items()}
    modules = [f"module load {' '.join(map(shlex.quote, launch.modules))}"] if launch.modules else []
    return [*modules, *launch.setup, *(f"export {k}={_filled_in(v)}" for k, v in (variables | launch.env).items())]


def _filled_in(value: str) -> str:
    """In double quotes, where bash replaces $NAME and ${NAME}, and runs nothing."""
    escaped = re.sub(r'(["\\`])', r"\\\1", value)
    return '"' + NO_VARIABLE.sub(r"\\$", escaped) + '"'
