"""The local files that a run reads, by their content: the same path may hold other data tomorrow."""

import hashlib
from pathlib import Path

from dpo.config.schema import RunConfig

SAMPLES, SAMPLE_BYTES = 16, 2**16  # read of a weight file: 1 MiB, from its header to its end
NO_INPUT = (".md", ".gitattributes")  # beside a model's files, and no part of it


def inputs(config: RunConfig) -> dict[str, str]:
    """Setting -> digest of the file or folder that it names; hub names and what is not set are left out."""
    named = {
        "data.path": config.data.path,
        "data.eval_path": config.data.eval_path,
        "model.path": config.model.path,
        "reference.path": config.reference.path,
    }
    return {key: _digest(Path(path)) for key, path in named.items() if path is not None and Path(path).exists()}


def _digest(path: Path) -> str:
    """Over a file, or over the files of a folder; of large weight files their size and samples."""
    files = [path] if path.is_file() else sorted(f for f in path.iterdir() if f.is_file() and _counts(f))
    found = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        found.update(f"{file.name if path.is_dir() else file.suffix} {size}".encode())
        with file.open("rb") as stream:
            if file.suffix in (".safetensors", ".bin"):
                for i in range(SAMPLES):
                    stream.seek(max(0, size - SAMPLE_BYTES) * i // (SAMPLES - 1))
                    found.update(stream.read(SAMPLE_BYTES))
            else:
                found.update(hashlib.file_digest(stream, "sha256").digest())
    return found.hexdigest()


def _counts(file: Path) -> bool:
    return not file.name.startswith(".") and file.suffix not in NO_INPUT
