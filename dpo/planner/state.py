"""What a worker holds of weights, gradients and optimizer in each ZeRO stage, in bytes: as the engines of this project
and DeepSpeed 0.19.8 allocate it, which is not always as the ZeRO paper (arXiv:1910.02054) counts it.
"""

from dataclasses import dataclass

from dpo.planner.job import Job

# DeepSpeed's stage3_max_reuse_distance: a gathered weight stays when it is needed again within so many elements.
REUSE_DISTANCE = 10**9
MOMENTS, MOMENTS_8BIT = 8.0, 2.0 + 2 * 4 / 256  # bytes per weight; a scale in float32 per block of 256


@dataclass(kw_only=True, slots=True)
class State:
    """Bytes on the device that do not depend on the rows."""

    weights: float  # that compute: whole or sharded, and what ZeRO-3 holds gathered
    gradients: float  # at the end of backward
    early: float  # of those, what is there while the last forward pass of a step ends
    optimizer: float  # masters in float32 and moments
    reference: float
    buffers: float  # that collectives send from and receive into
    step: float  # more, while the optimizer's step is prepared; activations are gone then


def state(job: Job) -> State:
    return State(
        weights=_weights(job),
        gradients=gradients(job),
        early=_early(job),
        optimizer=0.0 if job.offload_optimizer else optimizer(job),
        reference=reference(job),
        buffers=_buffers(job),
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
    small = min(model.small_parameters, job.sizes.get("stage3_model_persistence_threshold", model.parameters))
    behind, held = 0, 0
    modules = [model.embedding, *[model.layer_parameters] * model.layers, model.embedding]
    for size in reversed(modules[: None if not model.tied else -1]):
        if 2 * behind >= REUSE_DISTANCE:
            break
        held += size
        behind += size
    ahead = max(model.layer_parameters, job.sizes.get("stage3_prefetch_bucket_size", 0)) + model.layer_parameters
    return min(model.parameters, small + held + ahead) * job.compute_bytes


def gradients(job: Job) -> float:
    """Float32 sums over the micro-batches of a step; with offload they go to the host as they come."""
    if job.offload_optimizer:
        return 0.0
    return 4.0 * job.trained / shard(job, 2)


def _early(job: Job) -> float:
    """From the second micro-batch on all of them; ZeRO-3, and ZeRO-1 in half precision, have their place from the
    start."""
    always = job.stage == 3 or (job.stage == 1 and job.compute_bytes == 2)
    return gradients(job) if always or job.micro_batches > 1 else 0.0


def optimizer(job: Job) -> float:
    """Moments, and float32 masters where other weights compute; ZeRO-1 and 2 keep masters of float32 weights too."""
    moments = MOMENTS_8BIT if job.eight_bit else MOMENTS
    masters = 4.0 if job.compute_bytes == 2 or job.stage in (1, 2) else 0.0
    return job.trained * (moments + masters) / shard(job, 1)


def reference(job: Job) -> float:
    """A second model in every step: whole, or sharded whatever the stage of the policy."""
    if job.reference == "moving" and job.adapted:
        return float(job.trained * job.compute_bytes)
    if job.reference not in ("sharded", "moving"):
        return 0.0
    whole = job.model.parameters * job.compute_bytes
    return float(whole) if job.stage == 0 else whole / job.workers + gathered(job)


def _buffers(job: Job) -> float:
    """ZeRO's buckets: 2 for reducing while the next fills, of the type that computes. Plain torch sends copies of all
    gradients, which stay until the last has come back (dpo/distributed/gradient_sums.py)."""
    if job.stage == 0:
        return 4.0 * job.trained if job.workers > 1 else 0.0
    count = 1 if job.stage == 3 else 2
    return float(count * job.sizes.get("reduce_bucket_size", 5 * 10**8) * job.compute_bytes)


def _step(job: Job) -> float:
    """ZeRO copies its partition's gradients into one tensor for the optimizer, at most 10^9 at a time in ZeRO-3."""
    if job.stage == 0 or job.offload_optimizer:
        return 0.0
    share = job.trained / job.workers
    return 4.0 * (min(share, REUSE_DISTANCE) if job.stage == 3 else share)
