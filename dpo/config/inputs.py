"""The local files that a run reads, by their content: the same path may hold other data tomorrow."""

import glob
import hashlib
from pathlib import Path

from dpo.config.schema import RunConfig

SAMPLES, SAMPLE_BYTES = 16, 2**16  # read of a weight file: 1 MiB, from its header to its end
NO_INPUT = (".md", ".gitattributes")  # beside a model's files, and no part of it


def inputs(config: RunConfig) -> dict[str, str]:
    """Setting -> digest of the file or folder that it names; hub names and what is not set are left out."""
    models = {"model.path": config.model.path, "reference.path": config.reference.path}
    named = {key: _model_files(path) for key, path in models.items() if path is not None}
    data = {"data.path": config.data.path, "data.eval_path": config.data.eval_path}
    data |= {f"data.sources.{i}.path": source.path for i, source in enumerate(config.data.sources)}
    named |= {key: _data_files(path) for key, path in data.items() if path is not None}
    named["data.decontaminate"] = [file for path in config.data.decontaminate for file in _data_files(path)]
    return {key: _digest(files) for key, files in named.items() if files}


def _model_files(path: str) -> list[Path]:
    """The file, or the files of the folder; none of a hub name."""
    place = Path(path)
    if place.is_dir():
        return sorted(f for f in place.iterdir() if f.is_file() and _counts(f))
    return [place] if place.is_file() else []


def _data_files(path: str) -> list[Path]:
    """The same, with the folders in a folder, and the files that a glob matches."""
    place = Path(path).expanduser()
    found = glob.glob(f"{glob.escape(str(place))}/**" if place.is_dir() else str(place), recursive=True)
    files = [place] if place.is_file() else sorted(map(Path, found))
    return [file for file in files if file.is_file() and _counts(file)]


def _digest(files: list[Path]) -> str:
    """Over the names and the content of files; of large weight files their size and samples."""
    found = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        found.update(f"{file.name if len(files) > 1 else file.suffix} {size}".encode())
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
