"""Values that the settings imply: filled in once at start, each with the reason for the log."""

from dpo.config.schema import LoraAdapterConfig, RunConfig
from dpo.loss import LOSSES
from dpo.optim import default_lr


def derive(config: RunConfig) -> list[str]:
    """Replace `auto` and null by what follows from the rest. Returns one note per value derived."""
    notes = []
    if config.optim.lr is None:
        config.optim.lr = default_lr(config.adapter.kind)
        kind = "full fine-tuning" if config.adapter.kind == "none" else "an adapter"
        notes.append(f"optim.lr={config.optim.lr:g}: the default for {kind}")
    if config.reference.kind == "auto":
        config.reference.kind, why = _reference(config)
        notes.append(f"reference={config.reference.kind}: {why}")
    return notes


def _reference(config: RunConfig) -> tuple[str, str]:
    if not LOSSES[config.loss.name].needs_reference:
        return "none", f"loss={config.loss.name} compares with none"
    if config.reference.path:
        return "sharded", "reference.path names a model of its own"
    if isinstance(config.adapter, LoraAdapterConfig):
        return "adapter_off", "the base model under the adapter"
    return "sharded", "a frozen copy of the starting weights"
