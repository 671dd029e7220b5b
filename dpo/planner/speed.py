"""How long a run takes: the operations of its products, the bytes it moves, and a roofline over both.

Nothing here was measured on a GPU. Every assumed efficiency is a constant at the top, with its reason.
"""

from dataclasses import dataclass

from dpo.planner.activations import layer_bytes
from dpo.planner.job import BALANCE, Job
from dpo.planner.operations import forward_flops, passes_of_matrices, passes_of_scores, step_flops
from dpo.planner.traffic import Traffic, communication_seconds, gather_seconds, traffic

# Share of the data sheet's matrix throughput that the products reach. Reports on whole steps of well-tuned dense
# trainers of 7B to 70B models on A100 and H100 give 0.35 to 0.55; with elementwise operations, counted on their own
# below, rows of a few thousand tokens through eager PyTorch come out at about 0.4.
EFFICIENCY = 0.45
EFFICIENCY_CPU = 0.80
# Attention scores, against other products: exponentials between two short products (FlashAttention-2 reports half to
# two thirds of the throughput of plain products in forward, less in backward).
ATTENTION = 0.6
# Elementwise operations read and write what backward keeps about this often, at the memory's rate.
PASSES_OVER_ACTIVATIONS = 3.0
# Of a collective that DeepSpeed starts ahead, what computation hides. Its hooks and events leave gaps.
HIDDEN = 0.8
CPU_ADAM = 3e9 / 20  # weights per second on the host's cores together: 20 bytes each at 150 GB/s, half of it reached


@dataclass(kw_only=True, slots=True)
class Speed:
    """Seconds and rates of the run."""

    step_flops: float  # all workers; recomputed ones included
    step_seconds: float
    compute_seconds: float  # of a step: products and activations
    communication_seconds: float  # of a step, hidden or not
    optimizer_seconds: float
    exposed_seconds: float  # of the communication, what computation does not hide
    traffic: Traffic
    pairs_per_second: float
    training_hours: float
    reference_hours: float
    evaluation_hours: float
    bound: str  # what takes most of a step: compute, communication, optimizer

    @property
    def hours(self) -> float:
        return self.training_hours + self.reference_hours + self.evaluation_hours


def speed(job: Job) -> Speed:
    compute, flows = compute_seconds(job), traffic(job)
    communication = communication_seconds(job, flows)
    update = optimizer_seconds(job)
    exposed = max(communication - HIDDEN * compute, (1 - HIDDEN) * communication)
    step = compute + exposed + update
    parts = {"compute": compute, "communication": exposed, "optimizer": update}
    forward = forward_seconds(job) * (1.0 + job.mismatched)
    looked = forward * (1.0 + job.reference_model)
    pairs = job.lengths.pairs + job.lengths.held_out
    return Speed(
        step_flops=step_flops(job),
        step_seconds=step,
        compute_seconds=compute,
        communication_seconds=communication,
        optimizer_seconds=update,
        exposed_seconds=exposed,
        traffic=flows,
        pairs_per_second=job.global_batch / step,
        training_hours=job.steps * step / 3600,
        reference_hours=forward * pairs / job.global_batch / 3600 if job.reference == "cached" else 0.0,
        evaluation_hours=job.evaluations * looked * job.lengths.held_out / job.global_batch / 3600,
        bound=max(parts, key=lambda name: parts[name]),
    )


def compute_seconds(job: Job) -> float:
    """Of a step on its slowest worker: products at their efficiency, and activations past the memory, unless the
    efficiency was measured: then it is that of whole steps."""
    matrices, scores = forward_flops(job)
    products = matrices * passes_of_matrices(job) + scores * passes_of_scores(job) / ATTENTION
    memory_bytes = 0.0 if job.efficiency else PASSES_OVER_ACTIVATIONS * _activation_bytes(job)
    seconds = products / job.workers / _flops_per_second(job) + memory_bytes / (job.device.memory_gbps * 1e9)
    return seconds / balance(job)


def balance(job: Job) -> float:
    """Of the tokens that all workers could compute while the fullest is busy, those that there are: a step of fewer
    pairs than workers leaves some without any."""
    computed = job.micro_batches * job.mean_row * job.workers
    return min(BALANCE, job.global_batch * job.pair_tokens / computed)


def forward_seconds(job: Job) -> float:
    """Of one forward over as many pairs as a step has, with its gathers."""
    matrices, scores = forward_flops(job)
    compute = (matrices + scores / ATTENTION) / job.workers / _flops_per_second(job) / balance(job)
    sharded = job.stage == 3 or (job.stage and job.reference == "sharded")
    gather = gather_seconds(job) * job.micro_batches if sharded else 0.0
    return compute + max(gather - HIDDEN * compute, (1 - HIDDEN) * gather)


def _flops_per_second(job: Job) -> float:
    peak = job.device.tflops if job.compute_bytes == 2 else job.device.tflops_fp32
    return peak * 1e12 * (job.efficiency or (EFFICIENCY_CPU if job.on_cpu else EFFICIENCY))


def _activation_bytes(job: Job) -> float:
    """That a worker's layers write in forward, in a step."""
    tokens = job.global_batch * job.pair_tokens / job.workers
    return job.model.layers * layer_bytes(job) * tokens * (1.0 if job.checkpointing == "none" else 1.5)


def optimizer_seconds(job: Job) -> float:
    """AdamW reads and writes 28 bytes per weight of its shard; the host's cores share theirs."""
    share = job.trained / (job.workers if job.stage else 1)
    if job.offload_optimizer:
        here = min(job.per_node, job.workers)
        return share * here / CPU_ADAM * (6.0 if job.offload_optimizer == "nvme" else 1.0)
    return share * 28 / (job.device.memory_gbps * 1e9)
