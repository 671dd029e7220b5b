"""manifest.json: what a checkpoint consists of. A folder with another content, or without one, is damaged."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dpo.errors import CheckpointError
from dpo.records import write_atomic

MANIFEST = "manifest.json"
FORMAT = 2  # 1 had sizes without checksums


class Damaged(CheckpointError):
    """A checkpoint that is not what was written."""


@dataclass(kw_only=True, slots=True)
class FileRecord:
    """One file of tensors."""

    size: int  # bytes
    sha256: str


@dataclass(kw_only=True, slots=True)
class Manifest:
    """Everything about a checkpoint besides its tensors."""

    step: int  # optimizer steps done
    world_size: int  # that wrote it; any other may read it
    zero_stage: int
    created: str  # ISO 8601, UTC
    files: dict[str, FileRecord]
    providers: dict[str, Any]  # JSON values
    metrics: dict[str, float] = field(default_factory=dict)  # on the held-out set; empty: not measured at this step

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files.values())


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Synced to disk when this returns. Raises OSError."""
    body = {"format": FORMAT, **asdict(manifest)}
    write_atomic(folder / MANIFEST, json.dumps({"sha256": _digest(body), **body}, indent=2) + "\n")


def read_manifest(checkpoint: Path) -> Manifest:
    """Looks at no file beside it.

    Raises:
        Damaged: missing, cut off, changed.
        CheckpointError: whole, but of another version of this program.
    """
    try:
        body = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))
        expected = body.pop("sha256", None)
    except FileNotFoundError:
        raise Damaged(f"{MANIFEST} is missing") from None
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise Damaged(f"{MANIFEST} cannot be read ({error})") from error
    if body.get("format", FORMAT) != FORMAT and (body["format"] == 1 or _digest(body) == expected):
        raise CheckpointError(
            f"{checkpoint} has format {body['format']}, this version reads {FORMAT}: continue with the version that "
            "wrote it, or start afresh with resume=never"
        )
    if _digest(body) != expected:
        raise Damaged(f"{MANIFEST} is not what was written (its checksum differs)")
    try:
        del body["format"]
        return Manifest(**{**body, "files": {name: FileRecord(**file) for name, file in body["files"].items()}})
    except (KeyError, TypeError) as error:
        raise Damaged(f"{MANIFEST} has other entries than this version writes ({error})") from error


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
