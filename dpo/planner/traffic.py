"""What workers send each other and their hosts, and how long it takes when nothing else goes on.

No link was measured. Every assumed efficiency is a constant at the top, with its reason.
"""

from dataclasses import dataclass

from dpo.planner.activations import activations
from dpo.planner.job import Job
from dpo.planner.operations import without_gradient

LINK = 0.7  # of a link's rate, for large collectives
LATENCY, HOP = 20e-6, 1e-6  # seconds of a collective, whatever its size: to start it, and per worker of its ring
COLLECTIVES_PER_LAYER = 5  # of ZeRO-3 in a forward and backward pass: gathers of a layer in pieces, one reduction


@dataclass(kw_only=True, slots=True)
class Traffic:
    """Bytes that one worker sends in one step, and the collectives that carry them."""

    node: float  # over links within the node
    network: float  # between nodes
    host: float  # to and from the host's memory
    collectives: int


def traffic(job: Job) -> Traffic:
    """ZeRO (arXiv:1910.02054, sect. 7): ZeRO-3 gathers the weights in forward and in backward of every micro-batch and
    reduces their gradients each time; ZeRO-2 reduces every micro-batch and gathers once; plain torch and ZeRO-1 sum
    once per step. Between nodes, the links of all GPUs of a node share what the node needs."""
    size, exchanged = _collective_bytes(job), _exchanged(job)
    here = min(job.per_node, job.workers)
    share_node = (here - 1) / here if job.nodes > 1 else (job.workers - 1) / job.workers
    share_network = (job.nodes - 1) / job.nodes / here
    far = job.sequence > job.per_node
    return Traffic(
        node=size * share_node + (0.0 if far else exchanged),
        network=size * share_network + (exchanged if far else 0.0),
        host=_to_host(job),
        collectives=_collectives(job),
    )


def _collective_bytes(job: Job) -> float:
    """That a step's collectives are about: a gather or a reduction of N bytes counts N, a sum of all on all 2 N."""
    n, b, trained = job.micro_batches, job.compute_bytes, float(job.trained)
    if job.workers == 1:
        return 0.0
    if job.stage == 3:
        gathers = 2.0 + without_gradient(job)
        return n * (gathers * job.model.parameters * b + b * trained)
    if job.stage == 2:
        return n * b * trained + b * trained
    return 4.0 * trained + (b if job.stage == 1 else 4.0) * trained


def _exchanged(job: Job) -> float:
    """Rows that workers share: query, key, value and output of every layer, to the heads and back, in forward and
    backward (and once more where a layer is computed again)."""
    if job.sequence == 1:
        return 0.0
    model = job.model
    tokens = job.global_batch * job.pair_tokens / job.workers
    width = 2 * model.query_width + 2 * model.key_width
    times = 2.0 + (job.checkpointing != "none") + without_gradient(job)
    return times * model.layers * width * tokens * job.compute_bytes * (job.sequence - 1) / job.sequence


def _collectives(job: Job) -> int:
    if job.workers == 1:
        return 0
    if job.stage == 3:
        return job.micro_batches * job.model.layers * COLLECTIVES_PER_LAYER
    return job.model.layers


def _to_host(job: Job) -> float:
    """Of a worker in a step: offloaded weights come for every pass, gradients go, updated weights come back; kept
    activations go and come."""
    n, share = job.micro_batches, job.trained / job.workers
    moved = 2.0 * activations(job).moved * n * job.mean_row / job.fullest_row
    if job.offload_optimizer:
        moved += n * 4.0 * share + job.compute_bytes * share
    if job.offload_weights:
        moved += (2.0 + without_gradient(job)) * n * job.model.parameters * job.compute_bytes / job.workers
    return moved


def communication_seconds(job: Job, flows: Traffic) -> float:
    node = flows.node / (job.device.link_gbps * 1e9 * LINK)
    network = flows.network / (job.network_gbps * 1e9 * LINK)
    host = flows.host / (job.device.host_gbps * 1e9 * LINK)
    return max(node, network) + host + flows.collectives * (LATENCY + HOP * job.workers)


def gather_seconds(job: Job) -> float:
    """Of all weights once."""
    size, here = job.model.parameters * job.compute_bytes, min(job.per_node, job.workers)
    node = size * (here - 1) / here / (job.device.link_gbps * 1e9 * LINK)
    network = size * (job.nodes - 1) / job.nodes / here / (job.network_gbps * 1e9 * LINK)
    return max(node, network) + job.model.layers * 2 * (LATENCY + HOP * job.workers)
