"""Which checkpoints stay: the newest ones, and the best by a held-out metric."""

import math
from dataclasses import dataclass
from pathlib import Path

from dpo.checkpoint.damage import damage
from dpo.checkpoint.folders import checkpoints_in
from dpo.checkpoint.manifest import Manifest, read_manifest
from dpo.config.schema import CheckpointConfig
from dpo.errors import CheckpointError

LOWER_IS_BETTER = ("loss",)  # of the metrics that checkpoint.best may name


@dataclass(kw_only=True, slots=True)
class Whole:
    """A checkpoint without damage."""

    folder: Path
    manifest: Manifest


def whole_in(folder: Path, *, read: bool) -> list[Whole]:
    """Oldest first. `read`: checksums too, see `dpo.checkpoint.damage`."""
    found = []
    for path in checkpoints_in(folder):
        try:
            if not damage(path, read=read):
                found.append(Whole(folder=path, manifest=read_manifest(path)))
        except CheckpointError:  # of another version: neither counted nor removed
            continue
    return found


def best_of(checkpoints: list[Whole], metric: str | None) -> Whole | None:
    """The best among those that were measured; of equals the newest."""
    sign = 1 if metric in LOWER_IS_BETTER else -1
    measured = [c for c in checkpoints if metric and math.isfinite(c.manifest.metrics.get(metric, math.nan))]
    return min(reversed(measured), key=lambda c: sign * c.manifest.metrics[str(metric)], default=None)


def superfluous(checkpoints: list[Whole], settings: CheckpointConfig) -> list[Whole]:
    """Those of `checkpoints` (oldest first, all whole) that need not stay. Damaged ones are not counted, so the only
    good one always stays."""
    best = best_of(checkpoints, settings.best)
    return [c for c in checkpoints[: -settings.keep] if c is not best]
