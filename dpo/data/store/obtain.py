"""Prepared pairs: found again where nothing has changed, made where something has; one process makes them, others wait.

<cache_dir>/<16 digits>/
    manifest.json       what they were made from, what became of every row; written last
    pairs-00000.arrow   ...
    rejects.jsonl       every row that is not there
"""

import logging
import os
import secrets
import shutil
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo.data.store.manifest import FILE, Manifest
from dpo.data.store.pairs import Source
from dpo.data.store.pool import through_pool
from dpo.data.store.recipe import Recipe, differences
from dpo.data.store.work import chunks
from dpo.data.store.write import Writer
from dpo.digests import FileDigests
from dpo.disk import explain
from dpo.errors import DataError, EnvironmentProblem
from dpo.progress import Counting
from dpo.run_lock import RunLock

log = logging.getLogger(__name__)

ASK_SECONDS = 0.1  # between two looks for what another process prepares
DIGITS = 16  # of the digest in a folder's name
UNREADABLE = (OSError, ValueError, KeyError, TypeError)  # of a manifest


@dataclass(kw_only=True, slots=True)
class Place:
    """Where prepared pairs are kept, and this process's part in making them."""

    cache: Path
    processes: int = 1
    prepares: bool = True  # else it waits for the one of its machine that does
    shown: bool = True  # whether it shows its progress

    def folder(self, wanted: str) -> Path:
        return self.cache / wanted[:DIGITS]


def obtain(recipe: Recipe, wanted: str, place: Place) -> None:
    """Returns when the folder with the pairs of `recipe`, whose digest is `wanted`, is complete. Whoever finds it so
    needs no right to write.

    Raises:
        DataError: nothing to prepare, or other files than the process has that `wanted` comes from.
        EnvironmentProblem: the folder cannot be written.
    """
    folder = place.folder(wanted)
    if not place.prepares:
        _wait(folder)
    elif _problem(folder, place.cache):
        lock = RunLock(
            place.cache / f".{folder.name}.lock", float("inf"), "these pairs are being prepared", "data.cache_dir"
        )
        lock.take()
        try:
            if problem := _problem(folder, place.cache):  # else another job has made it meanwhile
                _remove_damaged(folder, problem)
                _make(recipe, wanted, place)
        finally:
            lock.release()


def load(recipe: Recipe, wanted: str, place: Place) -> Source:
    """What `obtain` has seen to."""
    folder = place.folder(wanted)
    return Source(folder=folder, name=recipe.name, label=recipe.label, manifest=Manifest.read(folder))


def _wait(folder: Path) -> None:
    """Without a collective, which would give up after its time-out. When the preparing process fails, the launcher ends
    this one."""
    while not (folder / FILE).exists():
        time.sleep(ASK_SECONDS)


def _problem(folder: Path, cache: Path) -> str:
    """Why the pairs in `folder` cannot be used; empty when everything is there as it was written."""
    if not folder.exists():
        return "not there"
    try:
        parts = Manifest.read(folder).parts
        found = FileDigests(cache, "data").of([folder / part.file for part in parts])
    except UNREADABLE as error:
        return f"{FILE} or a file that it names: {error}"
    return ", ".join(part.file for part, sha256 in zip(parts, found, strict=True) if part.sha256 != sha256)


def _remove_damaged(folder: Path, problem: str) -> None:
    """In one step, as nobody may take it for whole in between."""
    if not folder.exists():
        return
    log.warning("data: the prepared pairs in %s are damaged (%s): prepared anew", folder, problem)
    aside = _temporary(folder)
    folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def _temporary(folder: Path) -> Path:
    """A name beside `folder` that nobody else uses."""
    return folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")


def _make(recipe: Recipe, wanted: str, place: Place) -> None:
    if recipe.digest(place.cache) != wanted:
        raise DataError(
            f"{recipe.label} is not the same for all workers: what this one finds differs from what worker 0 has "
            "read. Give all machines the same files, the same packages and the same tokenizer"
        )
    folder = place.folder(wanted)
    _explain(recipe, place)
    for left in place.cache.glob(f".{folder.name}.*.tmp"):  # of a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    temporary = _temporary(folder)
    try:
        _write(recipe, temporary, place)
        os.rename(temporary, folder)
    except OSError as error:
        if not (folder / FILE).exists():  # else another was faster, on a file system without locks
            raise EnvironmentProblem(f"data.cache_dir={place.cache}: {explain(error, place.cache)}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(recipe: Recipe, folder: Path, place: Place) -> None:
    work, items = recipe.open()
    with (
        Writer(folder) as writer,
        Counting(f"data: preparing {recipe.label}", "pairs", place.shown) as counting,
        closing(through_pool(chunks(items), work, place.processes)) as results,
    ):
        for done in results:
            writer.add(done)
            counting.add(done.tally.pairs)
        writer.finish(recipe.made_from(place.cache), work.converter)


def _explain(recipe: Recipe, place: Place) -> None:
    """Why what is there does not do: what has changed since the newest preparation of the same source."""
    made_from = recipe.made_from(place.cache)
    for path in sorted(place.cache.glob(f"[0-9a-f]*/{FILE}"), key=lambda path: -path.stat().st_mtime):
        try:
            before = Manifest.read(path.parent).made_from
        except UNREADABLE:
            continue
        if _label(before.get("source", {})) == _label(made_from["source"]):
            changed = ", ".join(differences(made_from, before))
            log.info("data: %s is prepared anew, since this has changed: %s", recipe.label, changed)
            return


def _label(source: dict[str, Any]) -> Any:
    """What a source is called, whatever it holds."""
    if "files" in source:
        return [name for name, _ in source["files"]]
    return [source.get(key) for key in ("hub", "split", "subset", "data_dir", "code")]
