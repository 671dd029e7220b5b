"""`python -m dpo checkpoints`: what a run can continue from, whether it is whole, and removing what is not needed."""

from datetime import UTC, datetime
from pathlib import Path

from dpo.checkpoint.damage import damage
from dpo.checkpoint.folders import checkpoints_in, damaged_in, remove
from dpo.checkpoint.manifest import Damaged, read_manifest
from dpo.checkpoint.retain import best_of, superfluous, whole_in
from dpo.columns import columns
from dpo.config.schema import CheckpointConfig
from dpo.disk import explain
from dpo.errors import CheckpointError

CHECKPOINTS = "checkpoints"
HEAD = ("checkpoint", "step", "MB", "files", "best", "held-out", "age")


def runs_in(output_dir: Path) -> list[Path]:
    """Every run there that has checkpoints, also damaged ones."""
    found = sorted(path.parent for path in output_dir.glob(f"*/{CHECKPOINTS}"))
    return [run for run in found if _has_checkpoints(run)]


def run_folder(path: Path) -> Path:
    """Raises CheckpointError when no checkpoint was ever written there."""
    if not _has_checkpoints(path):
        known = ", ".join(str(run) for run in runs_in(path.parent)) or "none"
        raise CheckpointError(f"{path}: no run with checkpoints; beside it there are: {known}")
    return path


def _has_checkpoints(run: Path) -> bool:
    return bool(checkpoints_in(run / CHECKPOINTS) or damaged_in(run / CHECKPOINTS))


def list_checkpoints(runs: list[Path], settings: CheckpointConfig) -> str:
    """A table per run. Sizes are compared, checksums are not read."""
    parts = []
    for run in runs:
        folder = run / CHECKPOINTS
        best = best_of(whole_in(folder, read=False), settings.best)
        rows = [
            _cells(path, settings.best, is_best=best is not None and best.folder == path)
            for path in checkpoints_in(folder)
        ]
        aside = [f"{path.name}  set aside as damaged" for path in damaged_in(folder)]
        parts.append("\n".join([str(folder), *columns([HEAD, *rows]), *aside]) + "\n")
    return "\n".join(parts)


def verify_checkpoints(runs: list[Path]) -> tuple[str, bool]:
    """Read every file of every checkpoint. Returns the text and whether all are whole."""
    lines, whole = [], True
    for path in (path for run in runs for path in checkpoints_in(run / CHECKPOINTS)):
        found = damage(path)
        whole = whole and not found
        lines.append(f"{path}: {'damaged' if found else 'whole'}" + "".join(f"\n  {line}" for line in found))
    if not whole:
        lines.append("A run passes damaged ones over and continues from the newest whole one.")
    return "\n".join(lines) + "\n", whole


def prune_checkpoints(run: Path, settings: CheckpointConfig) -> str:
    """Keep the newest `keep` and the best, counting only those whose every file is what was written; remove the others
    that are whole. What is damaged or set aside stays. Raises CheckpointError when the disk refuses."""
    folder = run / CHECKPOINTS
    whole = whole_in(folder, read=True)
    lines = []
    for old in superfluous(whole, settings):
        try:
            remove(old.folder)
        except OSError as error:
            raise CheckpointError(f"{old.folder} cannot be removed: {explain(error, folder)}") from error
        lines.append(f"removed {old.folder} ({old.manifest.size / 1e6:.1f} MB)")
    kept = ", ".join(path.name for path in [*checkpoints_in(folder), *damaged_in(folder)])
    return "\n".join([*lines, f"kept in {folder}: {kept}"]) + "\n"


def _cells(checkpoint: Path, metric: str | None, is_best: bool) -> tuple[str, ...]:
    wrong = damage(checkpoint, read=False)
    try:
        manifest = read_manifest(checkpoint)
    except Damaged:
        return (checkpoint.name, "", "", wrong[0], "", "", "")
    value = manifest.metrics.get(metric) if metric else None
    measured = f"{metric} {value:.4f}" if value is not None else ""
    state = "damaged" if wrong else "there"
    size = f"{manifest.size / 1e6:.1f}"
    return (
        checkpoint.name,
        str(manifest.step),
        size,
        state,
        "best" if is_best else "",
        measured,
        _age(manifest.created),
    )


def _age(created: str) -> str:
    """In the unit that fits; a clock that was set back gives 0 s."""
    seconds = max(0.0, (datetime.now(UTC) - datetime.fromisoformat(created)).total_seconds())
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
