"""What can be changed of a run without changing its result, as overrides and as what they mean for a `Job`."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

from dpo.planner.estimate import Estimate
from dpo.planner.job import Job

ROWS = (2048, 4096, 8192, 16384, 32768, 65536)
CHECKPOINTING = ("none", "selective", "full")
SHARED = (1, 2, 4, 8)  # workers to a row
FEWEST_TOKENS = 256  # of a slice of a row


class Zero(NamedTuple):
    """One file of conf/zero."""

    stage: int
    optimizer: str | None = None  # where it is offloaded to
    weights: str | None = None


ZEROS = {
    "off": Zero(0),
    "zero1": Zero(1),
    "zero2": Zero(2),
    "zero3": Zero(3),
    "zero2_offload": Zero(2, "cpu"),
    "zero3_offload": Zero(3, "cpu", "cpu"),
}


class Way(NamedTuple):
    """One value of everything that may be chosen, in the order in which overrides are written."""

    workers: int
    zero: str | None  # None: no file of conf/zero that the planner chooses, such as zero3_nvme
    rows: int
    checkpointing: str
    offload: bool  # of activations
    shared: int

    def settings(self) -> tuple[str, ...]:
        """As overrides."""
        return (
            f"plan.gpus={self.workers}",
            f"zero={self.zero}",
            f"optim.micro_batch_tokens={self.rows}",
            f"model.gradient_checkpointing={self.checkpointing}",
            f"model.activation_offload={str(self.offload).lower()}",
            f"zero.sequence_parallel={self.shared}",
        )


@dataclass(kw_only=True, slots=True)
class Found:
    """One way to run the job."""

    overrides: list[str]  # that differ from the job's own settings
    estimate: Estimate


def every_way(job: Job, host_gib: float, workers: list[int]) -> Iterator[Found]:
    """All combinations of the choices above on each of these numbers of workers, whether they fit or not."""
    own = way_of(job)
    rows = sorted({*ROWS, job.row_tokens})
    for values in product(workers, ZEROS, rows, CHECKPOINTING, (False, True), SHARED):
        way = Way(*values)
        if _sensible(job, way):
            given = zip(way, own, way.settings(), strict=True)
            overrides = [text for value, before, text in given if value != before]
            yield Found(overrides=overrides, estimate=Estimate(job=apply(job, way), host_gib=host_gib))


def way_of(job: Job) -> Way:
    own = Zero(job.stage, job.offload_optimizer, job.offload_weights)
    zero = next((name for name, known in ZEROS.items() if known == own), None)
    return Way(job.workers, zero, job.row_tokens, job.checkpointing, job.activation_offload, job.sequence)


def apply(job: Job, way: Way) -> Job:
    """The job done in that way, one of `ZEROS`."""
    zero = ZEROS[way.zero or ""]
    return replace(
        job,
        workers=way.workers,
        stage=zero.stage,
        offload_optimizer=zero.optimizer,
        offload_weights=zero.weights,
        row_tokens=way.rows,
        checkpointing=way.checkpointing,
        activation_offload=way.offload,
        sequence=way.shared,
    )


def _sensible(job: Job, way: Way) -> bool:
    """What the trainer accepts, and what could be worth it: sharding needs somebody to share with."""
    offloads = ZEROS[way.zero or ""].optimizer is not None
    if ((job.on_cpu or job.eight_bit) and offloads) or (job.on_cpu and way.offload):
        return False
    if way.workers == 1 and not offloads and way.zero != "off":
        return False
    return way.shared == 1 or _shareable(job, way)


def _shareable(job: Job, way: Way) -> bool:
    """Rows between neighbours in a node that divide workers and heads among them."""
    heads, keys, n = job.model.heads, job.model.kv_heads, way.shared
    divides = way.workers % n == 0 and heads % n == 0 and (keys % n == 0 or n % keys == 0)
    return divides and n <= job.per_node and job.layout == "packed" and way.rows // n >= FEWEST_TOKENS
