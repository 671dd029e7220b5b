"""Every cross-check of a configuration: all problems at once, each with the setting to change."""

import os
import re
from dataclasses import fields, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from dpo.config.checks_data import data_problems
from dpo.config.checks_expect import expect_problems
from dpo.config.checks_loss import loss_problems
from dpo.config.checks_objective import objective_problems
from dpo.config.compose import as_dict
from dpo.config.derive import NO_RUNS
from dpo.config.fields import range_problem
from dpo.config.keys import keys_in_settings
from dpo.config.schema import RunConfig
from dpo.deadline import seconds_left
from dpo.distributed import sizes
from dpo.errors import ConfigError

FOLDER_NAME = re.compile(r"\w[\w.-]{0,99}")  # neither "..", nor a hidden folder, nor what a command takes for an option


def check(config: RunConfig) -> None:
    """Raises ConfigError with everything that is out of range or contradicts something else."""
    if keys := keys_in_settings(as_dict(config)):
        raise ConfigError(keys)  # alone: other messages repeat values
    problems = [
        *_ranges(config),
        *_model_and_data(config),
        *objective_problems(config.data.objective),
        *data_problems(config.data),
        *loss_problems(config),
        *_zero(config),
        *_deadline(config),
        *_revisions(config),
        *_deterministic(config),
        *_guard(config),
        *_not_yet(config),
        *_names(config),
        *expect_problems(config.expect),
    ]
    if problems:
        raise ConfigError(problems)


def check_device(config: RunConfig, device: str, missing: list[str]) -> None:
    """What a configuration asks of the hardware, known once the workers have joined; `missing`: other problems found.

    Raises:
        ConfigError: a setting that needs a GPU on a machine without.
    """
    problems = list(missing)
    if config.precision == "fp16" and device == "cpu":
        problems.append("precision=fp16 needs a GPU: on a CPU use precision=fp32, or bf16")
    if config.model.activation_offload and device == "cpu":
        problems.append(
            "model.activation_offload=true moves activations from a GPU to the host, and this run has no GPU: set it "
            "to false, or keep fewer with model.gradient_checkpointing=full"
        )
    if problems:
        raise ConfigError(problems)


def _ranges(section: Any, prefix: str = "") -> list[str]:
    """Hold every field to the choices and ranges that its schema states."""
    problems = []
    for f in fields(section):
        key, value = f"{prefix}{f.name}", getattr(section, f.name)
        if is_dataclass(value):
            problems += _ranges(value, f"{key}.")
        elif isinstance(value, list) and value and is_dataclass(value[0]):
            problems += [problem for i, item in enumerate(value) for problem in _ranges(item, f"{key}[{i}].")]
        elif value is not None and (problem := range_problem(value, f.metadata)):
            problems.append(f"{key}={value}: {problem}")
    return problems


def _model_and_data(config: RunConfig) -> list[str]:
    model, data = config.model, config.data
    problems = []
    if model.path in (None, "???") and not model.build:
        problems.append("model.path is not set: give a folder or a hub name (or model=tiny for the built-in model)")
    if model.path and model.build:
        problems.append(f"model.path={model.path} and model.build={model.build}: choose one; model=hf takes a path")
    if model.build and model.build != "tiny":
        problems.append(f"model.build={model.build}: the only model built in code is tiny")
    if model.build and model.revision:
        problems.append("model.revision has no meaning for a model built in code: remove it or set model.path")
    if model.compile and config.zero.stage == 3:
        problems.append(
            f"model.compile=true with zero={config.zero.name}: DeepSpeed gathers every weight by itself, which breaks "
            "a layer into pieces too small to gain: zero=zero2 (or zero1, off), or model.compile=false"
        )
    if model.compile and config.zero.sequence_parallel > 1:
        problems.append(
            f"model.compile=true with zero.sequence_parallel={config.zero.sequence_parallel}: the exchange between "
            "workers in every attention cannot be compiled: set one of them to its default (false, 1)"
        )
    if model.compile and model.gradient_checkpointing == "selective":
        problems.append(
            "model.compile=true hides from model.gradient_checkpointing=selective what to keep: set it to full or none"
        )
    if data.max_length and data.max_prompt_length and data.max_prompt_length >= data.max_length:
        problems.append(
            f"data.max_prompt_length={data.max_prompt_length} leaves no room for an answer within "
            f"data.max_length={data.max_length}: lower the first or raise the second"
        )
    if config.zero.sequence_parallel > 1 and config.layout == "padded":
        problems.append(
            f"zero.sequence_parallel={config.zero.sequence_parallel} shares packed rows between workers: layout=packed"
        )
    if config.eval.checker == "demo" and not data.demo:
        problems.append("eval.checker=demo can judge answers to data=demo only: set eval.checker=none")
    return problems


def _zero(config: RunConfig) -> list[str]:
    zero = config.zero
    settings = zero.deepspeed.get("zero_optimization", {})
    places = [settings.get(key) or {} for key in ("offload_optimizer", "offload_param")]
    on_disk = any(place.get("device") == "nvme" for place in places)
    problems = [
        f"zero.deepspeed.zero_optimization.{key}=auto: nothing is derived for it, give a number"
        for key in sizes.unknown(settings)
    ]
    if on_disk and not zero.nvme_path:
        problems.append(f"zero={zero.name} needs zero.nvme_path: a folder on this machine's own SSD")
    if zero.nvme_path and not on_disk:
        problems.append(f"zero.nvme_path={zero.nvme_path} has no effect with zero={zero.name}: use zero=zero3_nvme")
    if config.optim.kind == "adamw_8bit" and places[0].get("device", "none") != "none":
        problems.append(
            f"optim=adamw_8bit saves memory of the GPU, but zero={zero.name} keeps the moments elsewhere: use "
            "optim=adamw, or a zero= without offload"
        )
    return problems


def _deadline(config: RunConfig) -> list[str]:
    deadline = config.checkpoint.deadline
    try:
        seconds_left(deadline, datetime.now().astimezone(), os.environ)
    except ValueError as error:
        return [f"checkpoint.deadline={deadline}: {error}"]
    return []


def _revisions(config: RunConfig) -> list[str]:
    """A revision pins what comes from the hub; elsewhere it would be passed over in silence."""
    own = config.reference
    problems = []
    if own.revision and not own.path:
        problems.append("reference.revision has no effect without reference.path: model.revision pins the policy's")
    for name, path, revision in (
        ("model", config.model.path, config.model.revision),
        ("reference", own.path, own.revision),
    ):
        if revision and path and Path(path).exists():
            problems.append(f"{name}.revision={revision} has no effect on {path}, which is on this machine: remove it")
    return problems


def _deterministic(config: RunConfig) -> list[str]:
    """What computes outside torch does not follow torch's switch."""
    if not config.deterministic:
        return []
    model, problems = config.model, []
    if model.kernels != "none":
        problems.append(f"deterministic=true with model.kernels={model.kernels}: those promise nothing; set it to none")
    if model.compile:
        problems.append("deterministic=true with model.compile=true: its tuned kernels may differ; set it to false")
    if config.optim.kind == "adamw_8bit":
        problems.append("deterministic=true with optim=adamw_8bit: its kernels promise nothing; use optim=adamw")
    return problems


def _guard(config: RunConfig) -> list[str]:
    guard, timeout = config.guard, config.zero.timeout_seconds
    problems = []
    if guard.hang_seconds is not None and guard.hang_seconds >= timeout:
        problems.append(
            f"guard.hang_seconds={guard.hang_seconds:g} is not below zero.timeout_seconds={timeout}: a collective "
            "would give up first, without naming the worker that hangs. Lower the one or raise the other"
        )
    if guard.on_bad == "rollback" and guard.max_bad_steps is None:
        problems.append("guard.on_bad=rollback never happens with guard.max_bad_steps=null: give a number of steps")
    if guard.on_bad == "rollback" and not config.checkpoint.every:
        problems.append(
            "guard.on_bad=rollback needs checkpoints to go back to: set checkpoint.every to a number of steps"
        )
    return problems


def _not_yet(config: RunConfig) -> list[str]:
    """Names that are reserved and refused, never ignored."""
    problems = []
    if config.adapter.kind == "qlora":
        problems.append("adapter=qlora is not available yet: use adapter=lora")
    return problems


def _names(config: RunConfig) -> list[str]:
    problems = []
    if config.name is not None and (not FOLDER_NAME.fullmatch(config.name) or config.name in NO_RUNS):
        problems.append(
            f"name={config.name}: it becomes a folder of its own in output_dir={config.output_dir}, so at most 100 "
            f"letters, digits, '.', '_' and '-', the first no '.' or '-', and none of {', '.join(NO_RUNS)}"
        )
    if config.resume not in ("auto", "never") and not Path(config.resume).is_dir():
        problems.append(f"resume={config.resume}: no such folder; give auto, never, or a run's or checkpoint's folder")
    return problems
