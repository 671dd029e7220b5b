"""The names under checkpoints/, and how they change: by renames, so that a kill at any moment leaves nothing half done.

step-00000200              whole
.writing-step-00000200     under way, or left behind by a kill
.deleting-step-00000100    the same of a removal
step-00000200.damaged      set aside by a run that found it damaged; nothing reads or removes it any more
"""

import logging
import re
import shutil
from pathlib import Path

from dpo.checkpoint.manifest import MANIFEST
from dpo.disk import sync

log = logging.getLogger(__name__)

WRITING, DELETING, DAMAGED = ".writing-", ".deleting-", ".damaged"
_STEP = re.compile(r"step-\d{8,}")


def name_of(step: int) -> str:
    return f"step-{step:08d}"


def checkpoints_in(folder: Path) -> list[Path]:
    """Oldest first; whether they are whole is not looked at."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if _STEP.fullmatch(path.name) and _is_own_folder(path)]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


def damaged_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob(f"step-*{DAMAGED}*") if _is_own_folder(path))


def put_in_place(temporary: Path) -> Path:
    """Give a folder that is written and synced its final name; an older one of this name makes way first."""
    final = temporary.with_name(temporary.name.removeprefix(WRITING))
    aside = _make_way(final) if final.exists() else None
    try:
        temporary.rename(final)
    except OSError:
        if aside:
            aside.rename(final)
        raise
    sync(final.parent)
    if aside:
        shutil.rmtree(aside)
    return final


def remove(checkpoint: Path) -> None:
    """Raises OSError; the checkpoint is then whole under its name, or has none any more."""
    shutil.rmtree(_make_way(checkpoint))


def set_aside(checkpoint: Path) -> Path:
    """Raises OSError."""
    free = (f"{checkpoint.name}{DAMAGED}{f'.{n}' if n else ''}" for n in range(10_000))
    aside = next(path for name in free if not (path := checkpoint.with_name(name)).exists())
    checkpoint.rename(aside)
    return aside


def clear_leftovers(folder: Path) -> None:
    """After a kill, before anything is written: complete what lacked its last rename only, remove the rest."""
    try:
        for left in folder.glob(f"{WRITING}*"):
            final = left.with_name(left.name.removeprefix(WRITING))
            if (left / MANIFEST).is_file() and not final.exists():
                put_in_place(left)
            else:
                shutil.rmtree(left)
        for left in folder.glob(f"{DELETING}*"):
            shutil.rmtree(left)
    except OSError as error:
        log.warning("what a killed run left in %s cannot be removed: %s", folder, error.strerror)


def _make_way(checkpoint: Path) -> Path:
    aside = checkpoint.with_name(f"{DELETING}{checkpoint.name}")
    if aside.exists():
        shutil.rmtree(aside)
    checkpoint.rename(aside)
    return aside


def _is_own_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
