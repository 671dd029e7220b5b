"""Prepared pairs on their way to disk: Arrow files, and a list of what was lost, in a folder of a temporary name."""

from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa

from dpo.data.formats.convert import Converter
from dpo.data.rejects import lines
from dpo.data.store.manifest import REJECTS, Manifest, Part, Tally
from dpo.data.store.work import Done
from dpo.digests import sha256
from dpo.disk import sync

PART_PAIRS = 2**18  # then the next file begins: some 600 MB, and few enough to keep the files of 100 million pairs open


class Writer:
    """Holds nothing but counts. Raises OSError when the disk is full."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True)
        self.folder = folder
        self.tally = Tally()
        self._parts: list[Part] = []
        self._open: pa.RecordBatchFileWriter | None = None
        self._pairs = 0  # of the open part
        self._lost = (folder / REJECTS).open("w", encoding="utf-8", errors="backslashreplace")

    def add(self, done: Done) -> None:
        """What comes behind in the data."""
        self.tally.join(done.tally)
        self._lost.writelines(lines(done.lost))
        if done.batch is None:
            return
        if self._open is None:
            self._open = pa.ipc.new_file(str(self._path), done.batch.schema)
        self._open.write_batch(done.batch)
        self._pairs += done.batch.num_rows
        if self._pairs >= PART_PAIRS:
            self._close_part()

    def finish(self, made_from: dict[str, Any], converter: Converter | None) -> None:
        """Write the manifest, the last of all, and wait until everything is on the disk."""
        self._close_part()
        self._lost.close()
        manifest = Manifest(
            made_from=made_from,
            format=converter.describe() if converter else "made by code",
            format_name=converter.format.name if converter else "",
            unused=converter.unused if converter else [],
            parts=self._parts,
            tally=self.tally,
        )
        manifest.write(self.folder)
        for path in (*self.folder.iterdir(), self.folder):
            sync(path)

    @property
    def _path(self) -> Path:
        return self.folder / f"pairs-{len(self._parts):05d}.arrow"

    def _close_part(self) -> None:
        if self._open is None:
            return
        self._open.close()
        path, size = self._path, self._path.stat().st_size
        self._parts.append(Part(file=path.name, pairs=self._pairs, size=size, sha256=sha256(path)))
        self._open, self._pairs = None, 0

    def __enter__(self) -> "Writer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lost.close()
        if self._open is not None:
            self._open.close()
