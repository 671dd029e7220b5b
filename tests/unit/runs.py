"""Finished runs as they lie on disk, without training."""

from pathlib import Path

from dpo.config.compose import as_yaml, compose_run
from dpo.config.derive import derive
from dpo.records import MetricsLog, RunFolder, write_atomic, write_status


def finished(path: Path, *overrides: str, state: str = "done", **last: float) -> str:
    """A run of 40 steps as it lies on disk; `last`: its last held-out numbers."""
    folder = RunFolder(path).create()
    config = compose_run(list(overrides), 1).config
    derive(config)
    write_atomic(folder.config, as_yaml(config))
    with MetricsLog(folder.metrics) as metrics:
        metrics.append({"step": 0, "split": "eval", "loss": 0.6931})
        metrics.append({"step": 40, "split": "train", "loss": 0.1})
        if last:
            metrics.append({"step": 40, "split": "eval", **last})
    write_status(folder, state=state, step=40, total_steps=40)
    return str(path)
