"""Every number that a run writes down: what it is, its unit, and when it is there. The README's table is made of this.

Sums run over scored tokens; means over the step, or the held-out set, of all workers: over pairs, and those
of one side over the good or the bad answers, unpaired rows included.
"""

import re
from dataclasses import dataclass


@dataclass(kw_only=True, slots=True)
class Metric:
    """One key of metrics.jsonl; W&B and TensorBoard put `eval/` before those of held-out records."""

    name: str  # <...> stands for one word or more
    formula: str
    unit: str = ""
    train: bool = True  # stands in records of training
    held_out: bool = True  # ... and of held-out pairs
    when: str = "always"


def _training(name: str, formula: str, unit: str = "", when: str = "always") -> Metric:
    return Metric(name=name, formula=formula, unit=unit, held_out=False, when=when)


REWARDING = "all losses but sft"
METRICS = (
    Metric(
        name="loss",
        formula="mean over pairs; of kto over answers, of sft over answer tokens, of mix the weighted sum",
        unit="nats",
    ),
    Metric(name="loss/<term>", formula="of one term, without its weight", unit="nats", when="loss=mix"),
    Metric(
        name="rewards/chosen",
        formula="beta (log pi - log ref) of the chosen answer, or what the loss compares instead (per token, without "
        "reference); mean",
        unit="nats times beta",
        when=REWARDING,
    ),
    Metric(name="rewards/rejected", formula="of the rejected answer", unit="nats times beta", when=REWARDING),
    Metric(name="rewards/margins", formula="chosen - rejected reward; mean", unit="nats times beta", when=REWARDING),
    Metric(
        name="rewards/margins_p<share>",
        formula="a tenth, half and nine tenths of the margins lie below (p10, p50, p90), right to a fifth of the value",
        unit="nats times beta",
        when=REWARDING,
    ),
    Metric(
        name="rewards/margins_histogram",
        formula="margins per bin: {k: count}, bin k from 2^((k - 41) / 4) to 2^((k - 40) / 4), bin -k their negatives",
        unit="pairs",
        when=REWARDING,
    ),
    Metric(
        name="rewards/accuracies",
        formula="pairs with a positive margin; one within 1e-5 of zero is a tie and counts one half",
        unit="share",
        when=REWARDING,
    ),
    Metric(
        name="rewards/<one of these>/<source>",
        formula="chosen, rejected, margins or accuracies of the rows of one source",
        when="several data.sources",
    ),
    Metric(
        name="rewards/baseline",
        formula="what rewards are measured from: beta times the divergence, or the running mean of rewards",
        unit="nats times beta",
        when="loss=kto, bco",
    ),
    Metric(name="logps/chosen", formula="sum of log pi over the chosen answer; mean", unit="nats"),
    Metric(name="logps/rejected", formula="sum of log pi over the rejected answer; mean", unit="nats"),
    Metric(
        name="kl/chosen",
        formula="log pi - log ref of the chosen answer; mean. The divergence itself, had the policy written it",
        unit="nats",
        when="losses with a reference",
    ),
    Metric(
        name="kl/samples",
        formula="log pi - log ref of one answer per prompt that pi drew at temperature 1; mean. An estimate of "
        "KL(pi || ref)",
        unit="nats",
        train=False,
        when="first and last step, eval.kl_prompts; not with reference=cached, which has no model to score new text",
    ),
    Metric(
        name="samples/<verdict>",
        formula="sampled answers that eval.checker finds so",
        unit="share",
        train=False,
        when="first and last step, eval.checker=demo",
    ),
    _training("grad_norm", "Euclidean norm of the gradient, before clipping"),
    _training("learning_rate", "of the step"),
    _training("beta", "of the step", when="loss.beta_final"),
    _training("beta/<term>", "of the step, of one term", when="loss=mix with beta_final"),
    _training("epoch", "passes over the training pairs so far"),
    _training("pairs", "trained on so far", "pairs"),
    _training("tokens", "trained on so far; a prompt's count once, padding never", "tokens"),
    _training("bad_steps", "steps whose loss or gradient was not finite, so far", "steps"),
    _training("skipped_steps", "all that were not applied, so far (fp16: also while its scale adapts)", "steps"),
    _training("rollbacks", "returns to an older checkpoint, so far"),
    _training("loss_scale", "factor of the gradient against underflow", when="precision=fp16"),
    _training("reference_syncs", "moves of the reference, so far", when="reference=moving"),
    _training("pairs_per_second", "over the whole job, since the last record", "pairs/s"),
    _training("tokens_per_second", "the same; padding never counts", "tokens/s"),
    _training("peak_memory_gib", "the largest of all workers: GPU allocator, or resident memory of the process", "GiB"),
    _training("batch", "digest of the step's pairs and their order: equal for equal data order", "text"),
)
# Which record it is, beside the numbers.
ADDRESS = ("step", "split")


def metric(key: str) -> Metric | None:
    """What a key of a record is; None: nothing that this table knows."""
    return next((m for m in METRICS if re.fullmatch(re.sub(r"<[\w ]+>", ".+", m.name), key)), None)


def metric_table() -> str:
    """Markdown, a row per metric."""
    rows = [("metric", "what it is", "unit", "records", "when"), ("---",) * 5]
    rows += [(f"`{m.name}`", m.formula, m.unit, _records(m), m.when) for m in METRICS]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _records(metric: Metric) -> str:
    return "both" if metric.train and metric.held_out else "train" if metric.train else "held-out"
