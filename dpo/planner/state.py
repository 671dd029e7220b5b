"""What a worker holds of weights, gradients and optimizer in each ZeRO stage, in bytes: as the engines of this project
and DeepSpeed 0.19.8 allocate it, which is not always as the ZeRO paper (arXiv:1910.02054) counts it.
"""

from dataclasses import dataclass

from dpo.planner.job import Job

# DeepSpeed's stage3_max_reuse_distance: a gathered weight stays when it is needed again within so many elements.
REUSE_DISTANCE = 10**9
SUMMED_AT_A_TIME = 5 * 10**8  # elements (deepspeed.runtime.engine, MEMORY_OPT_ALLREDUCE_SIZE)
MOMENTS, MOMENTS_8BIT = 8.0, 2.0 + 2 * 4 / 256  # bytes per weight; a scale in float32 per block of 256


@dataclass(kw_only=True, slots=True)
class State:
    """Bytes on the device that do not depend on the rows."""

    weights: float  # that compute: whole or sharded, and what ZeRO-3 holds gathered
    gradients: float  # at the end of backward
    standing: float  # of those, what has its place from the start to the end of the run
    early: float  # of those, what is there while the last forward pass of a step ends
    optimizer: float  # masters in float32 and moments
    reference: float
    buffers: float  # that collectives send from and receive into
    summing: float  # more, at the end of backward
    step: float  # more, while the optimizer's step is prepared; activations are gone then


def state(job: Job) -> State:
    return State(
        weights=_weights(job),
        gradients=gradients(job),
        standing=_standing(job),
        early=max(_standing(job), gradients(job) if job.micro_batches > 1 else 0.0),
        optimizer=0.0 if job.offload_optimizer else optimizer(job),
        reference=reference(job),
        buffers=_buffers(job),
        summing=4.0 * min(job.trained, SUMMED_AT_A_TIME) if _keeps_both(job) else 0.0,
        step=_step(job),
    )


def shard(job: Job, stage: int) -> int:
    """Workers that share what `stage` shards."""
    return job.workers if job.stage >= stage else 1


def _weights(job: Job) -> float:
    return stored_weights(job) + (gathered(job) if job.stage == 3 else 0.0)


def stored_weights(job: Job) -> float:
    if job.offload_weights:
        return 0.0
    return job.model.parameters * job.compute_bytes / shard(job, 3)


def gathered(job: Job) -> float:
    """What ZeRO-3 holds whole at the turn from forward to backward: small tensors; what backward needs again within
    REUSE_DISTANCE, the last layers and the head; one layer in use and one fetched ahead."""
    model = job.model
    behind, held = 0, 0
    modules = [model.embedding, *[model.layer_parameters] * model.layers, model.embedding]
    for size in reversed(modules[: None if not model.tied else -1]):
        if 2 * behind >= REUSE_DISTANCE:
            break
        held += size
        behind += size
    ahead = max(model.layer_parameters, job.sizes.get("stage3_prefetch_bucket_size", 0)) + model.layer_parameters
    return min(model.parameters, _small(job) + held + ahead) * job.compute_bytes


def _small(job: Job) -> int:
    """Weights that stay whole on every worker."""
    most = job.sizes.get("stage3_model_persistence_threshold", job.model.parameters)
    return min(job.model.small_parameters, most)


def _keeps_both(job: Job) -> bool:
    """DeepSpeed's ZeRO-1 in bf16 is another class (BF16_Optimizer): float32 sums beside the gradients in bf16, both
    whole, and summed over the workers out of a copy."""
    return job.stage == 1 and job.precision == "bf16"


def gradients(job: Job) -> float:
    """Float32 sums over the micro-batches of a step; with offload they go to the host as they come."""
    if job.offload_optimizer:
        return 0.0
    return (6.0 if _keeps_both(job) else 4.0) * job.trained / shard(job, 2)


def _standing(job: Job) -> float:
    """ZeRO-3, and ZeRO-1 in bf16, never give their place to anything else."""
    if _keeps_both(job):
        return 4.0 * job.trained
    return gradients(job) if job.stage == 3 else 0.0


def optimizer(job: Job) -> float:
    """Moments, and float32 masters where other weights compute; ZeRO keeps masters of float32 weights too."""
    moments = MOMENTS_8BIT if job.eight_bit else MOMENTS
    masters = 4.0 if job.compute_bytes == 2 or job.stage else 0.0
    return job.trained * (moments + masters) / shard(job, 1)


def reference(job: Job) -> float:
    """A second model in every step: whole, or sharded whatever the stage of the policy. Nothing of it is needed again
    in backward: between its forwards only small tensors stay gathered."""
    model, b = job.model, job.compute_bytes
    if job.reference == "moving" and job.adapted:
        return float(job.trained * b)
    if job.reference not in ("sharded", "moving"):
        return 0.0
    return float(model.parameters * b) if job.stage == 0 else model.parameters * b / job.workers + _small(job) * b


def _buffers(job: Job) -> float:
    """ZeRO's buckets: 2 for reducing while the next fills, of the type that computes. Plain torch sends copies of all
    gradients, which stay until the last has come back (dpo/distributed/gradient_sums.py)."""
    if job.stage == 0:
        return 4.0 * job.trained if job.workers > 1 else 0.0
    count = 1 if job.stage == 3 else 2
    return float(count * job.sizes.get("reduce_bucket_size", 5 * 10**8) * job.compute_bytes)


def _step(job: Job) -> float:
    """ZeRO takes the norm of a gradient in float64, then copies its partition's gradients into one tensor for the
    optimizer, at most 10^9 at a time in ZeRO-3."""
    if job.stage == 0 or job.offload_optimizer or _keeps_both(job):
        return 0.0
    share = job.trained / job.workers
    if job.stage == 3:
        return 4.0 * min(share, REUSE_DISTANCE)
    return max(4.0 * share, 8.0 * min(share, job.model.largest))
