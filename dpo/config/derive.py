"""Values that the settings imply: filled in once at start, each with the reason for the log."""

from pathlib import Path

from dpo.config.schema import LoraAdapterConfig, RunConfig
from dpo.losses.loss import Loss
from dpo.optim import default_lr
from dpo.planner.job import pass_rows

# In output_dir beside the runs:
CACHE, DATA_CACHE, REPORTS, PLANS, SLURM_LOGS = NO_RUNS = (
    "reference_cache",
    "data_cache",
    "data_reports",
    "plans",
    "slurm_logs",
)


def derive(config: RunConfig) -> list[str]:
    """Replace `auto` and null by what follows from the rest. Returns one note per value derived."""
    notes = []
    if config.optim.lr is None:
        config.optim.lr = default_lr(config.adapter.kind)
        kind = "full fine-tuning" if config.adapter.kind == "none" else "an adapter"
        notes.append(f"optim.lr={config.optim.lr:g}: the default for {kind}")
    if config.guard.hang_seconds is None:
        config.guard.hang_seconds = config.zero.timeout_seconds / 3
    config.reference.cache_dir = cache_dir(config)
    config.data.cache_dir = data_cache_dir(config)
    if config.reference.batch_tokens is None:
        saving = config.model.gradient_checkpointing != "none" or config.model.activation_offload
        config.reference.batch_tokens = pass_rows(saving) * config.optim.micro_batch_tokens
    if config.reference.kind == "auto":
        config.reference.kind, why = _reference(config)
        notes.append(f"reference={config.reference.kind}: {why}")
    return notes


def cache_dir(config: RunConfig) -> str:
    """Where reference log-probabilities are kept."""
    return config.reference.cache_dir or str(Path(config.output_dir) / CACHE)


def data_cache_dir(config: RunConfig) -> str:
    """Where prepared pairs are kept."""
    return config.data.cache_dir or str(Path(config.output_dir) / DATA_CACHE)


def plans_dir(config: RunConfig) -> str:
    """Where pictures of plans are written."""
    return str(Path(config.output_dir) / PLANS)


def reports_dir(config: RunConfig) -> str:
    """Where reports on data are written."""
    return str(Path(config.output_dir) / REPORTS)


def _reference(config: RunConfig) -> tuple[str, str]:
    if not Loss(config.loss).needs_reference:
        return "none", f"loss={config.loss.name} compares with none"
    if config.reference.path:
        return "cached", "the model that reference.path names, computed once and kept"
    if isinstance(config.adapter, LoraAdapterConfig):
        return "cached", "the base model under the adapter, computed once and kept"
    return "cached", "the starting weights, computed once and kept"
