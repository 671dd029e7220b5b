"""`python -m dpo cache`: what is kept, whether it is whole, and removing it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo.columns import columns
from dpo.errors import CacheError
from dpo.reference.store import ABOUT, DAMAGED, PartDamaged, Values, join, parts_of, read_part

DIGITS = 16  # of the fingerprint in a folder's name


@dataclass(kw_only=True, slots=True)
class Kept:
    """One folder of a cache: the values of one fingerprint."""

    folder: Path
    about: dict[str, Any]  # empty when about.json is missing or damaged
    values: Values
    damaged: list[str]  # a line per part that cannot be read

    @property
    def short(self) -> str:
        return self.folder.name[-DIGITS:]


def list_kept(cache_dir: Path) -> str:
    """A table with one line per fingerprint."""
    kept = [_look(folder) for folder in _folders(cache_dir)]
    if not kept:
        return f"nothing is kept in {cache_dir}\n"
    head = ("fingerprint", "model", "precision", "responses", "tokens", "MB", "created")
    return "\n".join([str(cache_dir), *columns([head, *(_cells(k) for k in kept)])]) + "\n"


def verify_kept(cache_dir: Path, which: str) -> tuple[str, bool]:
    """Read every part again. Returns the text and whether all are whole. Raises CacheError."""
    kept = [_look(folder) for folder in _chosen(cache_dir, which)]
    lines = [f"{k.folder.name}: {_state(k)}" + "".join(f"\n  {line}" for line in k.damaged) for k in kept]
    whole = not any(k.damaged for k in kept)
    if not whole:
        lines.append("The next run sets damaged parts aside and computes their values again.")
    return "\n".join(lines or [f"nothing is kept in {cache_dir}"]) + "\n", whole


def remove_kept(cache_dir: Path, which: str) -> str:
    """Remove the values of one fingerprint, or of `all`. Only files that this cache wrote, only inside `cache_dir`.
    Raises CacheError."""
    lines = []
    for folder in _chosen(cache_dir, which):
        for pattern in ("part-*.safetensors", f"part-*{DAMAGED}", ".part-*.tmp", ABOUT):
            for file in folder.glob(pattern):
                file.unlink(missing_ok=True)
        left = sorted(path.name for path in folder.iterdir())
        if not left:
            folder.rmdir()
        lines.append(
            f"removed {folder}" + (f", apart from what is not of this cache: {', '.join(left)}" if left else "")
        )
    return "\n".join(lines or [f"nothing is kept in {cache_dir}"]) + "\n"


def _folders(cache_dir: Path) -> list[Path]:
    """Those that this cache made: real folders right inside it, by the form of their name."""
    if not cache_dir.is_dir():
        return []
    return sorted(
        path
        for path in cache_dir.iterdir()
        if path.is_dir() and not path.is_symlink() and _is_digest(path.name.rpartition("-")[2])
    )


def _is_digest(text: str) -> bool:
    return len(text) == DIGITS and set(text) <= set("0123456789abcdef")


def _chosen(cache_dir: Path, which: str) -> list[Path]:
    folders = _folders(cache_dir)
    if which == "all":
        return folders
    found = [folder for folder in folders if which and folder.name[-DIGITS:].startswith(which)]
    if len(found) != 1:
        known = ", ".join(folder.name[-DIGITS:] for folder in (found or folders)) or "nothing"
        said = f"{len(found)} fingerprints begin with" if found else "no fingerprint begins with"
        raise CacheError(f"{said} {which}; {cache_dir} holds {known}")
    return found


def _look(folder: Path) -> Kept:
    parts, damaged = [], []
    for path in parts_of(folder):
        try:
            parts.append(read_part(path))
        except PartDamaged as problem:
            damaged.append(f"{path.name} {problem}")
        except FileNotFoundError:  # a running job has set it aside
            continue
    return Kept(folder=folder, about=_read_about(folder), values=join(parts), damaged=damaged)


def _read_about(folder: Path) -> dict[str, Any]:
    try:
        about = json.loads((folder / ABOUT).read_text())
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def _cells(kept: Kept) -> tuple[str, ...]:
    size = sum(path.stat().st_size for path in parts_of(kept.folder)) / 1e6
    said = [str(kept.about.get(name, "unknown")) for name in ("model", "precision", "created")]
    n_different = len(set(kept.values.keys.tolist()))
    return (kept.short, said[0], said[1], f"{n_different:,}", f"{kept.values.tokens.sum():,}", f"{size:.1f}", said[2])


def _state(kept: Kept) -> str:
    text = f"{len(set(kept.values.keys.tolist())):,} responses"
    if kept.damaged:
        text += f", {len(kept.damaged)} damaged part{'s' if len(kept.damaged) > 1 else ''}"
    return text
