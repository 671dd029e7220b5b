"""What a worker keeps of one forward pass for backward, in bytes: counted operation by operation.

Shape letters: T tokens that the worker holds of a row, D hidden size, A query width, K key/value width, F width of the
feed-forward block, b bytes of a number that computes.
"""

from dataclasses import dataclass

from dpo.planner.architecture import Architecture
from dpo.planner.job import Job

SLICE_CPU, SLICE_GPU = 2**22, 2**26  # elements of a slice of logits (dpo/model/head.py)
HEAP_BLOCK = 2**25
GELU_SPELT = 5  # widths of F that gelu_new keeps, elementary operation by operation; measured by saved-tensor hooks
OFFLOADED = 2  # layers' worth that is on its way to the host or back


@dataclass(kw_only=True, slots=True)
class Activations:
    """Of one forward and backward pass of one worker, in bytes."""

    kept: float  # on the device, between forward and backward, of all layers
    moved: float  # to the host's memory
    working: float  # one layer's, while backward goes through it
    logits: float  # slices of the head and its gradients of hidden states

    @property
    def device(self) -> float:
        return self.kept + self.working


def activations(job: Job) -> Activations:
    """Of training. Without checkpointing all layers are kept; with it the working layer is computed again whole."""
    tokens, model = job.fullest_row, job.model
    layer, rest = layer_bytes(job), _outside_layers(job)
    kept = {"none": layer, "selective": _selective(job), "full": model.hidden * job.compute_bytes}[job.checkpointing]
    whole = layer if job.checkpointing != "none" else 0.0
    all_kept = model.layers * kept * tokens
    moved = 0.0
    if job.activation_offload:
        moved = max(0.0, all_kept - OFFLOADED * kept * tokens)
    return Activations(
        kept=all_kept - moved + rest * tokens,
        moved=moved,
        working=(whole + _backward(job)) * tokens,
        logits=logits_bytes(job, tokens),
    )


def retained(job: Job) -> float:
    """What glibc keeps of them on a CPU when they are gone: blocks under 32 MiB (its largest M_MMAP_THRESHOLD)."""
    tokens, model, acts = job.fullest_row, job.model, activations(job)
    if tokens * model.hidden * job.compute_bytes >= HEAP_BLOCK:
        return acts.logits
    share = 1.0
    if tokens * model.intermediate * job.compute_bytes >= HEAP_BLOCK:
        share = 1 - _feed_forward(job) / layer_bytes(job)
    return acts.device * share + acts.logits


def forward_only(job: Job, tokens: float) -> float:
    """Of a pass that keeps nothing: the widest part of one layer, and the head."""
    model, b = job.model, job.compute_bytes
    widest = (model.gated + 2) * model.intermediate * b + 3 * model.hidden * (b + 2)
    return tokens * widest + logits_bytes(job, tokens)


def layer_bytes(job: Job) -> float:
    """Per token, of one layer without checkpointing."""
    return _norms(job) + _attention(job) + _feed_forward(job) + _adapters(job)


def _norms(job: Job) -> float:
    """Two. RMSNorm spelt out keeps its input in float32, the normalised numbers (not under frozen weights) and its
    output; a kernel its input and its output."""
    model, b = job.model, job.compute_bytes
    if model.fused_norm or job.kernels:
        return 2 * model.hidden * 2 * b
    return 2 * model.hidden * (4 + b + (0 if job.adapted else b))


def _attention(job: Job) -> float:
    """Queries, keys, values, their output, and the keys and values that are copied together for each segment."""
    model, b, lengths = job.model, job.compute_bytes, job.lengths
    width, key = model.query_width, model.key_width
    if job.layout == "padded":
        return b * (2 * width + 2 * key)
    gathered = 2 * key * lengths.gathered / lengths.row
    if not job.on_cpu:  # one variable-length call: gathers, and keeps only what it gathered
        return b * (2 * width + gathered)
    # Segment by segment: prompts are views of the row, answers copies; outputs are kept as computed and in order.
    answers = 2 * key * (lengths.gathered - lengths.prompt) / lengths.row
    return b * (3 * width + 2 * key + answers)


def _feed_forward(job: Job) -> float:
    """Gate, its activation, up and their product, of which a kernel computes the activation again; without a gate what
    goes into the activation and what comes out."""
    model = job.model
    tensors = GELU_SPELT if model.spelt_activation else 2
    if model.gated:
        tensors = 3 if job.kernels else 4
    return tensors * model.intermediate * job.compute_bytes


def _adapters(job: Job) -> float:
    """LoRA's inner products, one of `rank` per layer; their inputs are kept in any case."""
    linears = job.model.linears.values()
    reach = sum(linear.inputs + linear.outputs for linear in linears)
    rank = job.trained / reach if job.adapted and reach else 0.0
    return rank * sum(linear.count for linear in linears) / job.model.layers * job.compute_bytes


def _selective(job: Job) -> float:
    """The layer's input, its four narrow projections and the attention (dpo/model/activations.py)."""
    model, b = job.model, job.compute_bytes
    return b * (2 * model.hidden + 2 * model.query_width + 2 * model.key_width)


def _backward(job: Job) -> float:
    """Per token, gradients alive at the widest point of backward: of the feed-forward block's product and its two
    factors, and of the residual stream."""
    model = job.model
    return job.compute_bytes * ((model.gated + 1) * model.intermediate + 2 * model.hidden)


def _outside_layers(job: Job) -> float:
    """Per token: the last norm, the scored hidden states, and the embedded tokens."""
    model, b = job.model, job.compute_bytes
    return model.hidden * (4 + b + b * job.scored_share)


def logits_bytes(job: Job, tokens: float) -> float:
    """Of the scoring head: one slice of the vocabulary in float32, and the scored hidden states' gradient."""
    scored = tokens * job.scored_share
    limit = SLICE_CPU if job.on_cpu else SLICE_GPU
    width = min(job.model.vocabulary, max(256, limit / max(1.0, scored)))
    softmax = 1 if job.compute_bytes == 4 else 1.5  # a copy in half precision for the products
    return scored * width * 4 * softmax + scored * job.model.hidden * (4 + job.compute_bytes)


def own_forward(model: Architecture, tokens: float) -> float:
    """Of the model's own forward in the self-check: logits of every position of one answer and its prompt, in float32,
    and their log-softmax."""
    return 2 * 4 * tokens * model.vocabulary
