"""The process group of a run: who is here, sums over all, and an end that never turns a good run into a failed one."""

import gc
import logging
import os
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from datetime import timedelta
from io import StringIO
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist
from accelerate import Accelerator, DeepSpeedPlugin
from accelerate.utils import InitProcessGroupKwargs
from torch import Tensor

from dpo.config.schema import OptimConfig, ZeroConfig
from dpo.distributed import extensions, launcher, sizes
from dpo.distributed.loss_scale import FIRST, LEAST, WINDOW
from dpo.distributed.network import choose_interface
from dpo.distributed.rendezvous import join_restartable
from dpo.distributed.sequence import SequenceGroup
from dpo.distributed.watchdog import Watchdog
from dpo.errors import ConfigError, UserError

log = logging.getLogger(__name__)

T = TypeVar("T")

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Pending(Protocol):
    """A collective under way."""

    def wait(self) -> Any: ...


@dataclass(kw_only=True, slots=True)
class World:
    """All workers of the job. `zero` is the stage that the policy is sharded with, 0 for plain torch.

    State is sharded over all of them. Data is shared out over `data_size`: that many times `sequence_size` neighbours
    compute one row together.
    """

    accelerator: Accelerator
    rank: int
    size: int
    device: torch.device
    zero: int
    precision: str
    control: dist.ProcessGroup | None = None  # all workers, over the CPU: what they agree on waits for no device
    sequence: SequenceGroup | None = None  # the workers that share this one's rows
    watchdog: Watchdog = field(default_factory=Watchdog)

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights that compute; master weights are float32 in any case."""
        return DTYPES[self.precision]

    @property
    def sequence_size(self) -> int:
        return self.sequence.size if self.sequence is not None else 1

    @property
    def sequence_rank(self) -> int:
        return self.sequence.rank if self.sequence is not None else 0

    @property
    def data_rank(self) -> int:
        return self.rank // self.sequence_size

    @property
    def data_size(self) -> int:
        return self.size // self.sequence_size

    def sum(self, values: Tensor) -> Tensor:
        """Element-wise sum over all workers."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def data_sum(self, values: Tensor) -> Tensor:
        """The same of what workers that share a row have in common, counted once."""
        if self.sequence_rank > 0:
            values.zero_()
        return self.sum(values)

    def start_sum(self, values: Tensor) -> Pending:
        """Begin the element-wise sum over all workers; `values` holds it after `wait()`."""
        return dist.all_reduce(values, async_op=True)

    def gather(self, values: Tensor) -> Tensor:
        """[K] of every worker -> [size, K], in one collective."""
        if self.size == 1:
            return values[None]
        out = values.new_empty(self.size * len(values))  # flat: gloo accepts no other shape
        dist.all_gather_into_tensor(out, values)
        return out.view(self.size, -1)

    def agree(self, flag: bool) -> bool:
        """True on all workers when it is true on one. The hosts wait for each other, their devices go on."""
        if self.size == 1:
            return flag
        flags = torch.tensor([flag], dtype=torch.int32)
        dist.all_reduce(flags, group=self.control)
        return bool(flags.item())

    def collect(self, value: Any) -> list[Any]:
        """A picklable value of every worker, in order of rank."""
        values: list[Any] = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def on_main(self, compute: Callable[[], T], alone: Callable[[Callable[[], Any]], Any] | None = None) -> T:
        """What `compute` gives on rank 0, on every worker; an error that the user can cure is everybody's.

        `alone`: calls what each worker does by itself, such as `StopRequest.alone`. A collective.
        """

        def mine() -> T | UserError | None:
            try:
                return compute() if self.is_main else None
            except UserError as error:
                return error

        outcome: Any = self.collect(alone(mine) if alone else mine())[0]
        if isinstance(outcome, UserError):
            raise outcome
        return outcome

    def barrier(self) -> None:
        if self.size > 1:
            dist.barrier(device_ids=[self.device.index or 0] if self.device.type == "cuda" else None)

    def release_models(self) -> None:
        """Give back the memory of models that nobody holds any more; accelerate and DeepSpeed hold theirs till then."""
        self.accelerator.free_memory()
        if self.zero:
            from dpo.distributed.zero import forget_models

            forget_models()
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def close(self) -> None:
        """Leave together. Workers that simply return ended with SIGABRT in one of six runs (DeepSpeed on gloo)."""
        if dist.is_available() and dist.is_initialized():
            self.barrier()
            self.watchdog.stop()
            time.sleep(0.2)
            dist.destroy_process_group()


def start_world(zero: ZeroConfig, optim: OptimConfig, precision: str, hidden_size: int | None = None) -> World:
    """Join the process group and set up accelerate, with one DeepSpeed plugin for the policy and one for the reference.

    `hidden_size` of the model fills in the sizes that conf/zero leaves as `auto`.

    Raises:
        ConfigError: the workers cannot be divided into groups of `zero.sequence_parallel`.
        EnvironmentProblem: no compiler for DeepSpeed on CPU.
    """
    if launcher.world_size() % zero.sequence_parallel:
        raise ConfigError(
            [f"zero.sequence_parallel={zero.sequence_parallel} must divide the {launcher.world_size()} workers"]
        )
    launcher.forget_accelerate_choices(precision)
    choose_interface()
    stage = zero.stage or 0
    on_cpu = not torch.cuda.is_available() or os.environ.pop("ACCELERATE_USE_CPU", "").lower() == "true"
    plugins = None
    if stage:
        if on_cpu:
            launcher.require_compiler()
        if zero.nvme_path:
            launcher.require_async_io()
        extensions.build_alone()
        launcher.complete_rendezvous()
        own = _own_settings(zero, hidden_size, on_cpu)
        plugins = {
            "policy": _plugin(deepspeed_config(own, optim, precision)),
            "reference": _plugin(reference_config(own, precision)),
        }
    backend, timeout = "gloo" if on_cpu else "nccl", timedelta(seconds=zero.timeout_seconds)
    this_start = join_restartable(backend, timeout)
    group = InitProcessGroupKwargs(backend=backend, timeout=timeout)
    with redirect_stdout(StringIO()):  # DeepSpeed reports there on the op it builds
        accelerator = Accelerator(
            cpu=on_cpu and not stage,
            mixed_precision="no",  # the engines hold the weights in the type that computes, and masters in float32
            deepspeed_plugins=plugins,
            kwargs_handlers=[group] if stage or launcher.world_size() > 1 else [],
        )
    return World(
        accelerator=accelerator,
        rank=accelerator.process_index,
        size=accelerator.num_processes,
        device=accelerator.device,
        zero=stage,
        precision=precision,
        control=_control_group(zero) if accelerator.num_processes > 1 else None,
        sequence=_sequence_group(zero),
        watchdog=Watchdog(this_start),
    )


def _control_group(zero: ZeroConfig) -> dist.ProcessGroup:
    return dist.new_group(backend="gloo", timeout=timedelta(seconds=zero.timeout_seconds))


def _sequence_group(zero: ZeroConfig) -> SequenceGroup | None:
    """Neighbours share a row: they are the likeliest to sit in one node, and attention exchanges twice per layer."""
    if zero.sequence_parallel == 1:
        return None
    group, _ = dist.new_subgroups(zero.sequence_parallel, timeout=timedelta(seconds=zero.timeout_seconds))
    return SequenceGroup(group)


def _own_settings(zero: ZeroConfig, hidden_size: int | None, on_cpu: bool) -> dict[str, Any]:
    """The chosen conf/zero file, complete: sizes filled in, memory pinned where there is a GPU to copy it to."""
    chosen = zero.deepspeed.get("zero_optimization", {})
    filled = sizes.fill(chosen, hidden_size)
    if line := sizes.describe(chosen, filled):
        log.info("zero=%s, for a hidden size of %s: %s", zero.name, hidden_size, line)
    for key in ("offload_optimizer", "offload_param"):
        if on_cpu and key in filled:
            filled[key] = {**filled[key], "pin_memory": False}
    return {**zero.deepspeed, "zero_optimization": filled}


def deepspeed_config(own: dict[str, Any], optim: OptimConfig, precision: str) -> dict[str, Any]:
    """DeepSpeed's configuration of the policy: the user's `own` settings plus what this trainer itself decides."""
    return {
        **own,
        # Boundaries are set by hand and the loss carries its own denominator, so DeepSpeed's own averaging is unused.
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": optim.max_grad_norm,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "wall_clock_breakdown": False,
        "steps_per_print": 2**31,
        **_precision_config(precision),
    }


def reference_config(own: dict[str, Any], precision: str) -> dict[str, Any]:
    """DeepSpeed's configuration of a frozen model. Weights are all it has, and only stage 3 shards weights."""
    shared = dict(own["zero_optimization"])
    shared.pop("offload_optimizer", None)
    return {
        "zero_optimization": {**shared, "stage": 3},
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "steps_per_print": 2**31,
        **_precision_config(precision),
    }


def _precision_config(precision: str) -> dict[str, Any]:
    if precision == "bf16":
        return {"bf16": {"enabled": True}, "data_types": {"grad_accum_dtype": "fp32"}}
    if precision == "fp16":
        scaling = {"initial_scale_power": FIRST.bit_length() - 1, "loss_scale_window": WINDOW, "min_loss_scale": LEAST}
        # hysteresis 1: every overflow halves the scale; DeepSpeed's 2 lets the first one pass.
        return {"fp16": {"enabled": True, "loss_scale": 0, "hysteresis": 1, **scaling}}
    return {"bf16": {"enabled": False}, "fp16": {"enabled": False}}


def _plugin(config: dict[str, Any]) -> DeepSpeedPlugin:
    # zero3_init_flag off: dpo/distributed/placement.py loads weights itself, tensor by tensor.
    return DeepSpeedPlugin(hf_ds_config=config, zero3_init_flag=False)
