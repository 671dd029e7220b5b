"""What is wrong with a checkpoint, file by file."""

import hashlib
from pathlib import Path

from dpo.checkpoint.manifest import MANIFEST, Damaged, FileRecord, Manifest, read_manifest

ALL = slice(None)


def damage(checkpoint: Path, share: slice = ALL, *, read: bool = True) -> list[str]:
    """A line per file that is not what was written; none for a whole checkpoint. Files that the manifest does not name
    are never read.

    Args:
        share: of the files; several workers may share them out.
        read: False looks at sizes only, which finds what a kill or a full disk leaves, not a flipped bit.

    Raises:
        CheckpointError: of another version of this program.
    """
    try:
        manifest = read_manifest(checkpoint)
    except Damaged as problem:
        return [str(problem)]
    if foreign := _foreign_names(manifest):
        return [f"{MANIFEST} names files that no checkpoint has: {', '.join(foreign)}"]
    states = {name: _state(checkpoint / name, manifest.files[name], read) for name in sorted(manifest.files)[share]}
    return [f"{name} {state}" for name, state in states.items() if state]


def _foreign_names(manifest: Manifest) -> list[str]:
    """A manifest from elsewhere must not lead out of its folder, or to a file that is not safetensors."""
    return [name for name in manifest.files if Path(name).name != name or not name.endswith(".safetensors")]


def _state(file: Path, expected: FileRecord, read: bool) -> str:
    try:
        size = file.stat().st_size
        if size != expected.size:
            return f"has {size} bytes instead of {expected.size}"
        if not read:
            return ""
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return "" if digest == expected.sha256 else "is not what was written (its checksum differs)"
