"""Settings -> the planner's `Job`, for machines that are named or for the one that a run starts on."""

import logging
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from dpo.config.derive import reports_dir
from dpo.config.identity import data_name
from dpo.config.schema import LoraAdapterConfig, RunConfig
from dpo.data.groups import Groups
from dpo.distributed import sizes
from dpo.distributed.world import World
from dpo.memory import available_gib
from dpo.model.shape import architecture_of, stated_config
from dpo.model.source import ModelSource
from dpo.planner.architecture import Architecture
from dpo.planner.devices import GPUS, Device, cpu_worker
from dpo.planner.estimate import Estimate
from dpo.planner.job import Job, Lengths
from dpo.planner.memory import memory
from dpo.planner.report_lengths import read_lengths
from dpo.planner.room import require_room
from dpo.planner.search import ways_to_fit
from dpo.planner.text import short

log = logging.getLogger(__name__)


def planned_architecture(config: RunConfig, source: ModelSource) -> Architecture:
    """Of the model that is to be trained: of its config.json where it is on this machine, else of the stated shape.

    Raises:
        ModelError: neither a local model nor a shape, and the hub does not have it or cannot be reached.
    """
    stated = config.model.shape
    if source.build or source.is_folder or stated is None:
        return architecture_of(source.config(), source)
    return architecture_of(stated_config(stated), source)


class Machines(NamedTuple):
    """What a run is planned on."""

    device: Device
    workers: int
    per_node: int


def planned_job(config: RunConfig, model: Architecture) -> Job:
    """On the GPUs that plan.* names."""
    plan = config.plan
    machines = Machines(GPUS[plan.gpu], plan.gpus, min(plan.gpus, plan.gpus_per_node))
    return job_of(config, model, machines, _lengths(config))


def job_of(config: RunConfig, model: Architecture, machines: Machines, lengths: Lengths) -> Job:
    """All settings of a run that its memory and time depend on."""
    zero, on_cpu = config.zero.deepspeed.get("zero_optimization", {}), machines.device.name == "cpu"
    trained = _trained(config, model)
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


def _lengths(config: RunConfig) -> Lengths:
    """Of the report on these data, where `python -m dpo report` has made one; what plan.* states is stated."""
    plan, share = config.plan, config.eval.fraction
    report = Path(reports_dir(config)) / f"{data_name(config)}.json"
    if found := read_lengths(report, share):
        return found
    pairs = plan.pairs or 10_000
    held_out = round(pairs * share)
    stated = "plan.pairs" if plan.pairs else "plan.pairs is not set: 10,000 taken"
    return Lengths(
        pairs=pairs - held_out,
        held_out=held_out,
        prompt=plan.prompt_tokens,
        answer=plan.answer_tokens,
        source=f"{stated}; mean lengths by plan.prompt_tokens and plan.answer_tokens, or of `dpo report`",
    )


@dataclass(kw_only=True, slots=True)
class PlanHere:
    """The plan of a run that starts on this machine. `model`: None where its structure cannot be built without its
    weights; nothing is said then, as no plan may stop what would run."""

    config: RunConfig
    model: Architecture | None
    device: Device
    workers: int
    workers_here: int

    @classmethod
    def of(cls, config: RunConfig, source: ModelSource, world: World) -> "PlanHere":
        model = None
        try:
            model = architecture_of(source.config(), source) if world.is_main else None
        except Exception as error:  # code that comes with a model may do anything
            log.debug("no plan for this model: %s", error)
        here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        device = _device_here(world.device, here)
        return cls(config=config, model=model, device=device, workers=world.size, workers_here=here)

    def require_room(self) -> None:
        """Stop a run whose weights, gradients and optimizer alone need more memory than its workers have.

        Raises:
            EnvironmentProblem: with what would make it fit. Not with plan.force.
        """
        if self.model is None or self.config.plan.force:
            return
        job = self._job(self.model, Lengths(pairs=1, held_out=0, prompt=1, answer=1, source=""))
        held, where = memory(job), "this machine" if job.on_cpu else "a GPU here"
        require_room(held, job.device.memory_gib, where, lambda: ways_to_fit(job, self._host_gib())[:2])

    def tell(self, groups: Groups) -> None:
        """The short form in the log, once the lengths of the pairs are known."""
        if self.model is not None:
            job = self._job(self.model, measured_lengths(groups))
            log.info("%s", short(Estimate(job=job, host_gib=self._host_gib())))

    def _job(self, model: Architecture, lengths: Lengths) -> Job:
        return job_of(self.config, model, Machines(self.device, self.workers, self.workers_here), lengths)

    def _host_gib(self) -> float:
        return available_gib(torch.device("cpu"), 1)


def measured_lengths(groups: Groups, held_out: int = 0) -> Lengths:
    """Tokens per pair: a prompt that several pairs share is shared out among them."""
    pairs = len(groups.members)
    answers = groups.pairs.lengths("chosen_ids").mean(), groups.pairs.lengths("rejected_ids").mean()
    prompts = groups.pairs.lengths("prompt_ids")[groups.members[groups.begins[:-1]]].sum() / pairs
    return Lengths(
        pairs=pairs, held_out=held_out, prompt=float(prompts), answer=float(sum(answers)) / 2, source="the data"
    )


def _device_here(device: torch.device, workers_here: int) -> Device:
    memory_gib = available_gib(device, workers_here)
    if device.type != "cuda":
        return cpu_worker(memory_gib)
    name = torch.cuda.get_device_name(device).lower()
    like = [gpu for gpu in GPUS.values() if gpu.name.split("-")[0] in name.replace(" ", "")]
    nearest = min(like or GPUS.values(), key=lambda gpu: abs(gpu.memory_gib - memory_gib))
    return replace(nearest, name=nearest.name if like else "GPU", memory_gib=memory_gib)
