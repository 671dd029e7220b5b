"""What makes a run the run it is: its default name, and whether a checkpoint belongs to it."""

import hashlib
import json
from pathlib import Path
from typing import Any

from dpo.config.compose import as_dict
from dpo.config.schema import RunConfig

# These change where and how a run computes, or what it writes down, but not what it computes.
ELSEWHERE = ("name", "resume", "output_dir", "track", "checkpoint", "zero", "guard")
SAME_NUMBERS = (
    "deterministic",
    "optim.micro_batch_tokens",
    "optim.micro_batch_pairs",
    "model.gradient_checkpointing",
    "model.activation_offload",
    "model.kernels",
    "model.compile",
    # Which model it is decides, and whether there is one follows from the loss; one that moves has settings of its own.
    "reference.kind",
    "reference.cache_dir",
    "reference.batch_tokens",
    "reference.spot_check",
)
# In a run that continues; and how it is watched: eval.*, but not what is held out.
MAY_CHANGE = ("optim.epochs", "optim.max_steps", "optim.kind")
HEAD_BYTES = 2**20


def identity(config: dict[str, Any]) -> dict[str, Any]:
    """The settings that decide the result, flat: {"loss.beta": 0.1, ...}."""
    flat = _flatten({key: value for key, value in config.items() if key not in ELSEWHERE})
    return {key: value for key, value in flat.items() if key not in SAME_NUMBERS}


def run_name(config: RunConfig) -> str:
    """`name`, or one made from the settings that decide the result and from the content of local files, so that two
    different runs never share a folder and the same command finds its own again."""
    if config.name:
        return config.name
    content = [
        _digest(path) for path in (config.data.path, config.data.eval_path, config.model.path, config.reference.path)
    ]
    text = json.dumps([identity(as_dict(config)), content], sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    model = config.model.build or _label(config.model.path)
    data = "demo" if config.data.demo else _label(config.data.path)
    return f"{model}-{data}-{config.loss.name}-{digest}"


def differences(saved: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Settings that would make a resumed run another run, each with both values."""
    before, after = identity(saved), identity(now)
    changed = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
    watched = [key for key in changed if key.startswith("eval.") and key != "eval.fraction"]
    other = [key for key in changed if key not in MAY_CHANGE and key not in watched]
    return [f"{key}: {before.get(key)} in the checkpoint, {after.get(key)} now" for key in other]


def _label(path: str | None) -> str:
    parts = Path(path or "none").parts
    name = parts[-2] if parts[-1] == "final" and len(parts) > 1 else parts[-1]
    return name.split(".json")[0].removesuffix(".parquet")[:40]


def _digest(path: str | None) -> str | None:
    """Digest of a local file, or of the files of a local folder; of large weight files their size and first bytes."""
    if path is None or not Path(path).exists():
        return None
    files = [Path(path)] if Path(path).is_file() else sorted(f for f in Path(path).iterdir() if f.is_file())
    found = hashlib.sha256()
    for file in files:
        found.update(f"{file.name} {file.stat().st_size}".encode())
        with file.open("rb") as stream:
            if file.suffix in (".safetensors", ".bin"):
                found.update(stream.read(HEAD_BYTES))
            else:
                found.update(hashlib.file_digest(stream, "sha256").digest())
    return found.hexdigest()


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
