"""How long a run takes: the operations of its products, the bytes it moves, and a roofline over both.

Nothing here was measured on a GPU. Every assumed efficiency is a constant at the top, with its reason.
"""

from dataclasses import dataclass

from dpo.planner.activations import activations, layer_bytes
from dpo.planner.job import Job

# Share of the data sheet's matrix throughput that whole training steps reach where nothing else limits them. Reports
# on well-tuned dense trainers of 7B to 70B models on A100 and H100 give 0.35 to 0.55; rows of a few thousand tokens
# through eager PyTorch sit at the lower end.
EFFICIENCY = 0.40
EFFICIENCY_CPU = 0.80
# Attention scores, against other products: exponentials between two short products (FlashAttention-2 reports half to
# two thirds of the throughput of plain products in forward, less in backward).
ATTENTION = 0.6
LINK = 0.7  # of a link's rate, for large collectives
# Elementwise operations read and write what backward keeps about this often, at the memory's rate.
PASSES_OVER_ACTIVATIONS = 3.0
# Of a collective that DeepSpeed starts ahead, what computation hides. Its hooks and events leave gaps.
HIDDEN = 0.8
LATENCY, HOP = 20e-6, 1e-6  # seconds of a collective, whatever its size: to start it, and per worker of its ring
COLLECTIVES_PER_LAYER = 5  # of ZeRO-3 in a forward and backward pass: gathers of a layer in pieces, one reduction
BALANCE = 0.95  # of a step's rows, the mean against the fullest (benchmarks/NOTES.md: 0.95 to 0.99), at best
CPU_ADAM = 3e9 / 20  # weights per second on the host's cores together: 20 bytes each at 150 GB/s, half of it reached


@dataclass(kw_only=True, slots=True)
class Traffic:
    """Bytes that one worker sends in one step, and the collectives that carry them."""

    node: float  # over links within the node
    network: float  # between nodes
    host: float  # to and from the host's memory
    collectives: int


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
    communication = _communication_seconds(job, flows)
    update = optimizer_seconds(job)
    exposed = max(communication - HIDDEN * compute, (1 - HIDDEN) * communication)
    step = compute + exposed + update
    parts = {"compute": compute, "communication": exposed, "optimizer": update}
    passes = job.lengths.pairs / job.global_batch
    forward = forward_seconds(job)
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
        reference_hours=forward * passes * _with_held_out(job) / 3600 if job.reference == "cached" else 0.0,
        evaluation_hours=job.evaluations * forward * job.lengths.held_out / job.global_batch / 3600,
        bound=max(parts, key=lambda name: parts[name]),
    )


def _with_held_out(job: Job) -> float:
    return (job.lengths.pairs + job.lengths.held_out) / max(1, job.lengths.pairs)


def forward_flops(job: Job) -> tuple[float, float]:
    """(products with weights, attention scores) of one forward over a step's pairs: two per weight and token, each
    prompt once; the head on scored tokens only; four per score and width of a head."""
    model, lengths = job.model, job.lengths
    tokens = job.global_batch * job.pair_tokens
    head = model.embedding * job.global_batch * 2 * lengths.answer
    matrices = 2.0 * (model.matrices * tokens + head)
    extra = 0.0 if job.layout == "packed" else lengths.prompt**2 / 2
    scores = 4.0 * model.query_width * model.layers * (lengths.scores + extra) * job.global_batch
    return matrices, scores


def passes_of_matrices(job: Job) -> float:
    """Forward passes' worth of products in a step: backward is two (with frozen weights one, as they need no gradient),
    recomputing one more, of which `selective` spares attention and the narrow projections; a reference model one."""
    backward = 1.0 if job.adapted else 2.0
    again = {"none": 0.0, "full": 1.0, "selective": _wide_share(job)}[job.checkpointing]
    reference = 1.0 if job.reference in ("sharded", "moving", "adapter_off") else 0.0
    return 1.0 + backward + again + reference


def _wide_share(job: Job) -> float:
    model = job.model
    wide = (model.gated + 1) * model.hidden * model.intermediate
    return min(1.0, model.layers * wide / max(1, model.matrices))


def step_flops(job: Job) -> float:
    matrices, scores = forward_flops(job)
    return matrices * passes_of_matrices(job) + scores * _passes_of_scores(job)


def _passes_of_scores(job: Job) -> float:
    """Backward of attention is two and a half forwards (FlashAttention computes the scores again)."""
    again = 1.0 if job.checkpointing == "full" else 0.0
    reference = 1.0 if job.reference in ("sharded", "moving", "adapter_off") else 0.0
    return 3.5 + again + reference


def compute_seconds(job: Job) -> float:
    """Of a step on its slowest worker: products at their efficiency, and activations past the memory."""
    matrices, scores = forward_flops(job)
    products = matrices * passes_of_matrices(job) + scores * _passes_of_scores(job) / ATTENTION
    memory_bytes = PASSES_OVER_ACTIVATIONS * _activation_bytes(job)
    seconds = products / job.workers / _flops_per_second(job) + memory_bytes / (job.device.memory_gbps * 1e9)
    return seconds / balance(job)


def balance(job: Job) -> float:
    """Of the tokens that all workers could compute while the fullest is busy, those that there are: a step of fewer
    pairs than workers leaves some without any."""
    computed = job.micro_batches * job.fullest_row * job.workers
    return min(BALANCE, job.global_batch * job.pair_tokens / computed)


def forward_seconds(job: Job) -> float:
    """Of one forward over as many pairs as a step has, with its gathers."""
    matrices, scores = forward_flops(job)
    compute = (matrices + scores / ATTENTION) / job.workers / _flops_per_second(job) / balance(job)
    sharded = job.stage == 3 or (job.stage and job.reference == "sharded")
    gather = _gather_seconds(job) * job.micro_batches if sharded else 0.0
    return compute + max(gather - HIDDEN * compute, (1 - HIDDEN) * gather)


def _flops_per_second(job: Job) -> float:
    peak = job.device.tflops if job.compute_bytes == 2 else job.device.tflops_fp32
    return peak * 1e12 * (job.efficiency or (EFFICIENCY_CPU if job.on_cpu else EFFICIENCY))


def _activation_bytes(job: Job) -> float:
    """That a worker's layers write in forward, in a step."""
    tokens = job.global_batch * job.pair_tokens / job.workers
    return job.model.layers * layer_bytes(job) * tokens * (1.0 if job.checkpointing == "none" else 1.5)


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
        gathers = 2.0 + (1.0 if job.reference in ("sharded", "moving", "adapter_off") else 0.0)
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
    times = 2.0 + (job.checkpointing != "none") + (job.reference in ("sharded", "moving", "adapter_off"))
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
    moved = 2.0 * activations(job).moved * n
    if job.offload_optimizer:
        moved += n * 4.0 * share + job.compute_bytes * share
    if job.offload_weights:
        moved += 2.0 * n * job.model.parameters * job.compute_bytes / job.workers
    return moved


def _communication_seconds(job: Job, flows: Traffic) -> float:
    node = flows.node / (job.device.link_gbps * 1e9 * LINK)
    network = flows.network / (job.network_gbps * 1e9 * LINK)
    host = flows.host / (job.device.host_gbps * 1e9 * LINK)
    return max(node, network) + host + flows.collectives * (LATENCY + HOP * job.workers)


def _gather_seconds(job: Job) -> float:
    """Of all weights once."""
    size, here = job.model.parameters * job.compute_bytes, min(job.per_node, job.workers)
    node = size * (here - 1) / here / (job.device.link_gbps * 1e9 * LINK)
    network = size * (job.nodes - 1) / job.nodes / here / (job.network_gbps * 1e9 * LINK)
    return max(node, network) + job.model.layers * 2 * (LATENCY + HOP * job.workers)


def optimizer_seconds(job: Job) -> float:
    """AdamW reads and writes 28 bytes per weight of its shard; the host's cores share theirs."""
    share = job.trained / (job.workers if job.stage else 1)
    if job.offload_optimizer:
        here = min(job.per_node, job.workers)
        return share * here / CPU_ADAM * (6.0 if job.offload_optimizer == "nvme" else 1.0)
    return share * 28 / (job.device.memory_gbps * 1e9)
