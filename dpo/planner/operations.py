"""Floating-point operations of a step, all workers together: a prompt counts once for all its answers."""

from dpo.planner.job import Job


def forward_flops(job: Job) -> tuple[float, float]:
    """(products with weights, attention scores) of one forward over a step's pairs: two per weight and token, each
    prompt once; the head on scored tokens only; four per score and width of a head."""
    model, lengths = job.model, job.lengths
    tokens = job.global_batch * job.pair_tokens
    head = model.embedding * job.global_batch * lengths.scored
    matrices = 2.0 * (model.matrices * tokens + head)
    pair = lengths.scores if job.layout == "packed" else lengths.padded_scores
    scores = 4.0 * model.query_width * model.layers * pair * job.global_batch
    return matrices, scores


def step_flops(job: Job) -> float:
    matrices, scores = forward_flops(job)
    return matrices * passes_of_matrices(job) + scores * passes_of_scores(job)


def passes_of_matrices(job: Job) -> float:
    """Forward passes' worth of products in a step: backward is two (with frozen weights one, as they need no gradient),
    recomputing one more, of which `selective` spares attention and the narrow projections; a reference model one."""
    backward = 1.0 if job.adapted else 2.0
    again = {"none": 0.0, "full": 1.0, "selective": _wide_share(job)}[job.checkpointing]
    return 1.0 + backward + again + without_gradient(job)


def without_gradient(job: Job) -> float:
    """Forward passes over a step's pairs beside the one that is learnt from."""
    return job.forwards + job.reference_model * (1.0 + job.mismatched)


def passes_of_scores(job: Job) -> float:
    """Backward of attention is two and a half forwards (FlashAttention computes the scores again)."""
    return 3.5 + (job.checkpointing == "full") + without_gradient(job)


def _wide_share(job: Job) -> float:
    model = job.model
    wide = (model.gated + 1) * model.hidden * model.intermediate
    return min(1.0, model.layers * wide / max(1, model.matrices))
