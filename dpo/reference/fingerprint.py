"""What a reference log-probability depends on besides tokens: the contents of the weight files, the settings in
config.json, the type that computes, and how this program scores. Never the live module, whose weights are empty shards
under ZeRO-3, and never a name."""

import json
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from safetensors.numpy import save

from dpo.digests import FileDigests
from dpo.errors import ModelError
from dpo.model.source import ModelSource
from dpo.model.tiny import build_tiny_model

# Raise it when the same tokens and weights would get other values: what is kept from before is then computed again.
SCORING_VERSION = 1

# In config.json, but without a say in the log-probability of given tokens.
WITHOUT_EFFECT = (
    "_name_or_path",
    "transformers_version",
    "dtype",  # of the files; the type that computes is `precision`
    "torch_dtype",
    "use_cache",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
)
ADAPTER = ("adapter_model.safetensors", "adapter_model.bin")


@dataclass(kw_only=True, slots=True)
class Fingerprint:
    """Two models with one fingerprint give the same values to rounding."""

    digest: str  # 64 hexadecimal digits
    model: str  # as the user names it, for people only
    parts: dict[str, Any]  # what was digested, in words

    @property
    def short(self) -> str:
        return self.digest[:16]


def fingerprint(source: ModelSource, precision: str, digests: FileDigests) -> Fingerprint:
    """Reads every weight file that `digests` does not remember.

    Raises:
        ModelError: no weight files, or one that cannot be read.
    """
    parts = {
        "weights": _built_weights(source) if source.build else _weights(source, digests),
        "config": _config(source),
        "code": _snapshot(source) if source.trust_remote_code else None,
        "precision": precision,
        "scoring_version": SCORING_VERSION,
    }
    digest = sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
    return Fingerprint(digest=digest, model=source.path or str(source.build), parts=parts)


def _built_weights(source: ModelSource) -> list[str]:
    """Of a model built in code the weights as the seed gives them, whole, on the CPU: a torch whose generator draws
    other numbers is then another model."""
    model = build_tiny_model(source.seed, source.config().vocab_size)
    tensors = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    return [f"built with seed {source.seed} {sha256(save(tensors)).hexdigest()}"]


def _weights(source: ModelSource, digests: FileDigests) -> list[str]:
    try:
        files = _files(source)
        return [f"{file.name} {digest}" for file, digest in zip(files, digests.of(files), strict=True)]
    except OSError as error:
        raise ModelError(f"{source.setting}={source.path}: a weight file cannot be read: {error}") from error


def _files(source: ModelSource) -> list[Path]:
    """Everything that decides the weights, sorted by name. More than is loaded would only be computed again."""
    found = _of_kind(source, "model", "safetensors") or _of_kind(source, "pytorch_model", "bin")
    if adapter := _optional(source, "adapter_config.json"):  # transformers loads its base model, then the adapter
        base = json.loads(adapter.read_text()).get("base_model_name_or_path")
        found += [path for name in ADAPTER if (path := _optional(source, name))]
        found += _files(replace(source, path=base, revision=None)) if base and base != source.path else []
    if not found:
        raise ModelError(
            f"{source.setting}={source.path}: there are no weight files (looked for model.safetensors, "
            "pytorch_model.bin and the indexes of either)"
        )
    if source.trust_remote_code and Path(str(source.path)).is_dir():
        found += sorted(Path(str(source.path)).glob("*.py"))
    return found


def _of_kind(source: ModelSource, stem: str, ending: str) -> list[Path]:
    """The single file and those that the index names."""
    names = {f"{stem}.{ending}"}
    if index := _optional(source, f"{stem}.{ending}.index.json"):
        names = set(json.loads(index.read_text())["weight_map"].values())
        if missing := sorted(name for name in names if source.file(name) is None):
            raise ModelError(f"{source.setting}={source.path}: weight files are missing: {', '.join(missing[:3])}.")
        names.add(f"{stem}.{ending}")
    return [path for name in sorted(names) if (path := _optional(source, name))]


def _optional(source: ModelSource, name: str) -> Path | None:
    """Like `source.file`; without a network, a file that was never fetched counts as one that the model lacks."""
    try:
        return source.file(name)
    except ModelError:
        return None


def _config(source: ModelSource) -> dict[str, Any]:
    if source.build:
        config = source.config().to_dict()
    else:
        path = source.file("config.json")
        config = json.loads(path.read_text()) if path else {}
    return {key: value for key, value in config.items() if key not in WITHOUT_EFFECT}


def _snapshot(source: ModelSource) -> str | None:
    """The hub commit that a model's own code comes from; code in a local folder counts with its files."""
    path = source.file("config.json")
    return None if path is None or Path(str(source.path)).is_dir() else path.parent.name
