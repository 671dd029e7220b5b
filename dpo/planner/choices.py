"""What can be changed of a run without changing its result, as overrides and as what they mean for a `Job`."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from dpo.planner.estimate import Estimate, estimate
from dpo.planner.job import Job

ROWS = (2048, 4096, 8192, 16384, 32768, 65536)
CHECKPOINTING = ("none", "selective", "full")
SHARED = (1, 2, 4, 8)  # workers to a row
FEWEST_TOKENS = 256  # of a slice of a row


@dataclass(kw_only=True, slots=True)
class Zero:
    """One file of conf/zero."""

    stage: int
    optimizer: str | None = None  # where it is offloaded to
    weights: str | None = None


ZEROS = {
    "off": Zero(stage=0),
    "zero1": Zero(stage=1),
    "zero2": Zero(stage=2),
    "zero3": Zero(stage=3),
    "zero2_offload": Zero(stage=2, optimizer="cpu"),
    "zero3_offload": Zero(stage=3, optimizer="cpu", weights="cpu"),
}


@dataclass(kw_only=True, slots=True)
class Found:
    """One way to run the job."""

    overrides: list[str]  # that differ from the job's own settings
    estimate: Estimate


def zero_of(job: Job) -> str | None:
    """The file of conf/zero that a job has; None: another, such as zero3_nvme."""
    own = Zero(stage=job.stage, optimizer=job.offload_optimizer, weights=job.offload_weights)
    return next((name for name, zero in ZEROS.items() if zero == own), None)


def every_way(job: Job, host_gib: float, workers: list[int]) -> Iterator[Found]:
    """All combinations of the choices above on each of these numbers of workers, whether they fit or not."""
    own_rows = sorted({*ROWS, job.row_tokens})
    for count, zero, rows, kept, offloaded, shared in product(
        workers, ZEROS, own_rows, CHECKPOINTING, (False, True), SHARED
    ):
        if not _sensible(job, count, zero, shared, rows):
            continue
        changed = _changed(job, count, zero, rows, kept, offloaded, shared)
        yield Found(overrides=_overrides(job, changed), estimate=estimate(changed, host_gib))


def _changed(job: Job, count: int, zero: str, rows: int, kept: str, offloaded: bool, shared: int) -> Job:
    place = ZEROS[zero]
    return replace(
        job,
        workers=count,
        stage=place.stage,
        offload_optimizer=place.optimizer,
        offload_weights=place.weights,
        row_tokens=rows,
        checkpointing=kept,
        activation_offload=offloaded,
        sequence=shared,
    )


def _sensible(job: Job, count: int, zero: str, shared: int, rows: int) -> bool:
    """What the trainer accepts, and what could be worth it: sharding needs somebody to share with."""
    heads, keys = job.model.heads, job.model.kv_heads
    if count % shared or heads % shared or (keys % shared and shared % keys) or rows // shared < FEWEST_TOKENS:
        return False
    if shared > 1 and (shared > job.per_node or job.layout == "padded"):
        return False
    if job.eight_bit and ZEROS[zero].optimizer:
        return False
    return count > 1 or zero in ("off", "zero2_offload", "zero3_offload")


def _overrides(job: Job, changed: Job) -> list[str]:
    """How `changed` is asked for, where it differs from `job`."""
    texts = {
        "workers": f"plan.gpus={changed.workers}",
        "zero": f"zero={zero_of(changed)}",
        "rows": f"optim.micro_batch_tokens={changed.row_tokens}",
        "kept": f"model.gradient_checkpointing={changed.checkpointing}",
        "offloaded": f"model.activation_offload={str(changed.activation_offload).lower()}",
        "shared": f"zero.sequence_parallel={changed.sequence}",
    }
    differs: dict[str, Any] = {
        "workers": changed.workers != job.workers,
        "zero": zero_of(changed) != zero_of(job),
        "rows": changed.row_tokens != job.row_tokens,
        "kept": changed.checkpointing != job.checkpointing,
        "offloaded": changed.activation_offload != job.activation_offload,
        "shared": changed.sequence != job.sequence,
    }
    return [text for key, text in texts.items() if differs[key]]
