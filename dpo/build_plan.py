"""Settings -> the planner's `Job`."""

import math
from typing import Any, NamedTuple

from dpo.config.schema import LoraAdapterConfig, RunConfig
from dpo.distributed import sizes
from dpo.errors import ModelError
from dpo.losses.loss import Loss
from dpo.model.shape import architecture_of, stated_config
from dpo.model.source import ModelSource
from dpo.planned_lengths import planned_lengths
from dpo.planner.architecture import Architecture
from dpo.planner.devices import GPUS, Device
from dpo.planner.job import Job, Lengths


def planned_architecture(config: RunConfig, source: ModelSource) -> Architecture:
    """Of the model that is to be trained: of its config.json where it is on this machine, else of the stated shape.

    Raises:
        ModelError: neither a local model nor a shape, and the hub does not have it or cannot be reached.
    """
    stated = config.model.shape
    if stated is not None and not (source.build or source.is_folder):
        return architecture_of(stated_config(stated), source)
    try:
        return architecture_of(source.config(), source)
    except ModelError as error:
        raise ModelError(
            f"{error} A plan needs its config.json alone, or model.shape as in conf/model/qwen7b.yaml"
        ) from error


class Machines(NamedTuple):
    """What a run is planned on."""

    device: Device
    workers: int
    per_node: int


def planned_job(config: RunConfig, model: Architecture) -> Job:
    """On the GPUs that plan.* names."""
    plan = config.plan
    machines = Machines(GPUS[plan.gpu], plan.gpus, min(plan.gpus, plan.gpus_per_node))
    return job_of(config, model, machines, planned_lengths(config))


def job_of(config: RunConfig, model: Architecture, machines: Machines, lengths: Lengths) -> Job:
    """All settings of a run that its memory and time depend on."""
    zero, on_cpu = config.zero.deepspeed.get("zero_optimization", {}), machines.device.name == "cpu"
    trained, loss = _trained(config, model), Loss(config.loss)
    steps = _steps(config, lengths.pairs)
    return Job(
        model=model,
        device=machines.device,
        on_cpu=on_cpu,
        workers=machines.workers,
        per_node=machines.per_node,
        network_gbps=config.plan.network_gbps / 8,
        efficiency=config.plan.efficiency,
        lengths=lengths,
        precision=config.precision,
        layout=config.layout if model.packed else "padded",
        checkpointing=config.model.gradient_checkpointing,
        activation_offload=config.model.activation_offload,
        row_tokens=config.optim.micro_batch_tokens,
        row_pairs=config.optim.micro_batch_pairs,
        kernels=config.model.kernels != "none",
        sequence=config.zero.sequence_parallel,
        trained=trained,
        adapted=trained != model.parameters,
        eight_bit=config.optim.kind == "adamw_8bit",
        stage=config.zero.stage or 0,
        offload_optimizer=_place(zero, "offload_optimizer", on_cpu),
        offload_weights=_place(zero, "offload_param", on_cpu),
        sizes={key: value for key, value in sizes.fill(zero, model.hidden).items() if isinstance(value, int)},
        reference=config.reference.kind,
        batch_tokens=config.reference.batch_tokens,
        self_check=config.guard.self_check,
        saves_copy=config.checkpoint.background,
        keeps=config.checkpoint.keep + (config.checkpoint.best is not None),
        global_batch=config.optim.global_batch_size,
        looks_first=loss.scope == "step",
        mismatched=loss.needs_mismatched,
        steps=steps,
        evaluations=2 + (steps // config.eval.every if config.eval.every else 0) if lengths.held_out else 0,
    )


def _trained(config: RunConfig, model: Architecture) -> int:
    if isinstance(config.adapter, LoraAdapterConfig):
        return model.adapter_parameters(config.adapter.rank, list(config.adapter.target_modules))
    return model.parameters


def _place(zero: dict[str, Any], key: str, on_cpu: bool) -> str | None:
    """Where state is offloaded to; from a CPU's memory to the host's nothing moves."""
    device = (zero.get(key) or {}).get("device", "none")
    return None if device == "none" or (on_cpu and device == "cpu") else device


def _steps(config: RunConfig, pairs: int) -> int:
    steps = math.ceil(pairs / config.optim.global_batch_size * config.optim.epochs)
    return max(1, min(steps, config.optim.max_steps or steps))
