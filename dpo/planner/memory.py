"""The most that a worker holds, by part, and in which phase of the run; and what its host and its disk need."""

from dataclasses import dataclass, field

from dpo.planner.activations import activations, forward_only, logits_bytes, own_forward, retained
from dpo.planner.job import Job
from dpo.planner.state import gathered, optimizer, state, stored_weights

GIB = 2**30
# CUDA context, libraries' workspaces and NCCL's channels, by common experience; the CPU's was measured (libraries that
# load on first use, threads' stacks; docs/PLANNING.md).
CONTEXT_GPU, NCCL_GPU, CONTEXT_CPU = 0.75 * GIB, 0.75 * GIB, 0.15 * GIB
HALF_CPU = 0.08 * GIB  # more where products in half precision are computed on a CPU, likewise measured
# Of what comes and goes (activations, logits, buffers), what an allocator cannot use again at once. Assumed for GPUs.
FRAGMENTED_GPU, FRAGMENTED_CPU = 0.08, 0.05
MIXED_CPU = 0.9  # of a CPU's heap, where tensors in bf16 stay between float32 copies that pass
PARTS = (  # in the order of tables and bars
    "weights",
    "gradients",
    "optimizer",
    "reference",
    "activations",
    "logits",
    "buffers",
    "checkpoint",
    "reserve",
)
HOST_WORKER = 3 * GIB  # Python, torch, the data and its rows, of every worker of a node


@dataclass(kw_only=True, slots=True)
class Memory:
    """Bytes."""

    phases: dict[str, dict[str, float]]  # phase -> part -> held at most, on the device
    host: dict[str, float]  # part -> held by the host of a node, its workers together; empty for CPU workers
    checkpoint: float  # one, on disk
    disk: float  # all that stay, and the exported model
    certain: float  # weights, gradients and optimizer alone: on the device, nothing of it estimated
    parts: dict[str, float] = field(init=False)  # of the phase that needs most
    phase: str = field(init=False)

    def __post_init__(self) -> None:
        self.phase = max(self.phases, key=lambda name: sum(self.phases[name].values()))
        self.parts = self.phases[self.phase]

    @property
    def peak(self) -> float:
        return sum(self.parts.values())


def memory(job: Job) -> Memory:
    moments = (_backward_begins(job), _backward_ends(job), _stepping(job))
    phases = {"training": max(moments, key=lambda parts: sum(parts.values()))}
    if job.reference == "cached":
        phases["reference pass"] = _reference_pass(job)
    if job.self_check:
        phases["self-check"] = _self_check(job)
    if job.on_cpu or job.stage:
        phases["checkpoint"] = _saving(job)
    if job.on_cpu:
        phases["export"] = _exporting(job)
    own = state(job)
    checkpoint = float(job.saved_bytes * job.trained)
    return Memory(
        phases={name: _with_reserve(job, parts) for name, parts in phases.items()},
        host={} if job.on_cpu else _host(job),
        checkpoint=checkpoint,
        disk=checkpoint * job.keeps + job.model.parameters * job.compute_bytes,
        certain=_certain_weights(job) + own.gradients + own.optimizer,
    )


def _certain_weights(job: Job) -> float:
    """Frozen ones on a CPU may be pages of their file, which come and go as there is room."""
    return 0.0 if job.on_cpu and job.adapted else stored_weights(job)


def _fixed(job: Job) -> dict[str, float]:
    own = state(job)
    return {"weights": own.weights, "optimizer": own.optimizer, "reference": own.reference}


def _backward_begins(job: Job) -> dict[str, float]:
    """All activations are there, and the head's gradient comes: beside the sum of earlier ones, or as the first."""
    own, acts = state(job), activations(job)
    head = 0.0 if job.adapted else job.model.embedding * job.compute_bytes
    return _fixed(job) | {
        "gradients": own.early + head,
        "activations": acts.device,
        "logits": acts.logits,
        "buffers": _sharding_buffers(job),
    }


def _backward_ends(job: Job) -> dict[str, float]:
    """All gradients are there, and one layer's activations."""
    own = state(job)
    return _fixed(job) | {
        "gradients": own.gradients + _embedding_gradients(job),
        "activations": _beside(job, own.gradients if job.stage == 0 else 0.0, activations(job).working),
        "buffers": own.buffers + own.summing + _gloo(job),
    }


def _sharding_buffers(job: Job) -> float:
    return state(job).buffers + _gloo(job) if job.stage else 0.0


def _gloo(job: Job) -> float:
    """Between CPU workers gloo gathers into a copy of its own, and reduces in one."""
    if not (job.on_cpu and job.stage == 3 and job.workers > 1):
        return 0.0
    return float(job.model.largest * job.compute_bytes)


def _embedding_gradients(job: Job) -> float:
    """On their way into the sum, each as large as the embedding. Autograd holds back the head's gradient of a tied
    weight until the embedding's has come too; the sum itself counts as gradients where it is whole and begins here."""
    if job.adapted:
        return 0.0
    begins = job.stage == 0 and job.micro_batches == 1
    return float((1 + job.model.tied - begins) * job.model.embedding * job.compute_bytes)


def _stepping(job: Job) -> dict[str, float]:
    """The optimizer's step: activations are gone."""
    own = state(job)
    return _fixed(job) | {
        "gradients": own.gradients + own.step,
        "activations": _beside(job, own.gradients + own.step),
        "buffers": own.buffers,
    }


def _beside(job: Job, new: float, least: float = 0.0) -> float:
    """What the activations still hold when `new` bytes of a model's tensors have come. On a CPU glibc keeps blocks
    under 32 MiB once they were used, and the small ones among the new tensors take their place."""
    if not job.on_cpu:
        return least
    small = new * (1 - job.model.large_parameters / job.model.parameters)
    return max(least, retained(job) - small)


def _reference_pass(job: Job) -> dict[str, float]:
    """Before anything of the policy is loaded."""
    tokens = job.reference_tokens
    whole = job.model.parameters * job.compute_bytes
    held = whole if job.stage == 0 else whole / job.workers + gathered(job)
    return {"weights": held, "activations": forward_only(job, tokens), "logits": logits_bytes(job, tokens)}


def _self_check(job: Job) -> dict[str, float]:
    """The model's own forward makes whole logits of one prompt and answer."""
    own = state(job)
    tokens = job.lengths.prompt + job.lengths.answer
    moments = own.optimizer if job.stage else own.optimizer * (job.compute_bytes == 2) / 3  # plain: in the first step
    return {
        "weights": own.weights,
        "optimizer": moments,
        "reference": own.reference,
        "gradients": own.standing,
        "logits": own_forward(job.model, tokens),
        "buffers": _sharding_buffers(job),
    }


def _saving(job: Job) -> dict[str, float]:
    """Weight and moments of one parameter at a time, gathered from all workers; on a CPU beside the worker's share of
    the copy, in which one parameter may be the most."""
    one = float(job.saved_bytes) * min(job.model.largest, job.trained)
    share = max(job.saved_bytes * job.trained / job.workers, one) if job.on_cpu else 0.0
    return _copying(job, share + (one if job.stage else 0.0))


def _exporting(job: Job) -> dict[str, float]:
    """The main worker holds the whole model once more, a tied embedding twice."""
    return _copying(job, float((job.model.parameters + job.model.tied * job.model.embedding) * job.compute_bytes))


def _copying(job: Job, copy: float) -> dict[str, float]:
    own = state(job)
    return _fixed(job) | {
        "gradients": own.standing,
        "activations": _beside(job, copy),
        "checkpoint": copy,
        "buffers": own.buffers if job.stage else 0.0,
    }


def _with_reserve(job: Job, parts: dict[str, float]) -> dict[str, float]:
    """With what the device itself takes, and what its allocator cannot use again."""
    activations, others = parts.get("activations", 0.0), parts.get("logits", 0.0) + parts.get("buffers", 0.0)
    if job.on_cpu:
        half = job.compute_bytes == 2
        reserve = CONTEXT_CPU + (HALF_CPU if half else 0.0)
        reserve += activations * (MIXED_CPU if half else FRAGMENTED_CPU) + others * FRAGMENTED_CPU
    else:
        reserve = CONTEXT_GPU + (NCCL_GPU if job.workers > 1 else 0.0) + (activations + others) * FRAGMENTED_GPU
    return {name: size for name, size in (parts | {"reserve": reserve}).items() if size}


def _host(job: Job) -> dict[str, float]:
    """Of one node: offloaded state, activations that wait there, the copy that a checkpoint is written from, and the
    whole model once when it is exported."""
    here = min(job.per_node, job.workers)
    share = here / job.workers
    offloaded = 0.0
    if job.offload_optimizer == "cpu":
        offloaded += (optimizer(job) * job.workers + 4.0 * job.trained) * share
    if job.offload_weights == "cpu":
        offloaded += job.model.parameters * job.compute_bytes * share
    parts = {
        "offloaded": offloaded,
        "activations": activations(job).moved * here,
        "checkpoint": float(job.saved_bytes) * job.trained * share if job.saves_copy else 0.0,
        "export": float(job.model.parameters * job.compute_bytes),
        "processes": float(HOST_WORKER * here),
    }
    return {name: size for name, size in parts.items() if size}
