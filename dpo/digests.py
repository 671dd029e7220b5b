"""SHA-256 of large files, remembered: a model of 15 GB, or data of 5, is read once."""

import json
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import file_digest
from pathlib import Path

from dpo.records import write_atomic

log = logging.getLogger(__name__)

FILE = "digests.json"
THREADS = 4  # hashing holds no lock; one thread reads 1 to 2 GB/s
WORTH_A_LINE = 2**30  # bytes
SETTLED_SECONDS = 2.0  # coarsest time stamps of common file systems: a file changed since could look unchanged


class FileDigests:
    """Digests by what the file system says of a file. Its time of change (ctime) is part of that: nobody can set it,
    so another content behind the same path, size and modification time is read anew."""

    def __init__(self, folder: Path, what: str):
        """Remembers in `folder`. `what`: how its lines in the log begin."""
        self.path = folder / FILE
        self.what = what
        self._known = _read(self.path)

    def of(self, files: list[Path]) -> list[str]:
        """SHA-256 of every file, in hexadecimal. Raises OSError."""
        before = {file: _state(file) for file in files}
        unknown = [file for file in files if before[file] not in self._known]
        if (size := sum(file.stat().st_size for file in unknown)) > WORTH_A_LINE:
            log.info("%s: reading %.1f GB for their digest, once", self.what, size / 1e9)
        with ThreadPoolExecutor(THREADS) as threads:
            found = dict(zip(unknown, threads.map(sha256, unknown), strict=True))
        digests = [found.get(file) or self._known[before[file]] for file in files]
        self._remember({before[file]: digest for file, digest in found.items() if _settled(file, before[file])})
        return digests

    def _remember(self, new: dict[str, str]) -> None:
        """Two jobs at once may lose one's entries, which costs another reading, and so does a folder that others own:
        whoever finds everything there needs no right to write."""
        if not new:
            return
        self._known = {**_read(self.path), **new}
        try:
            write_atomic(self.path, json.dumps(self._known, indent=0))
        except OSError as error:
            log.info("%s: digests of files are not remembered: %s", self.what, error)


def _state(file: Path) -> str:
    s = file.stat()
    return "|".join(map(str, (file.resolve(), s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino, s.st_dev)))


def _settled(file: Path, before: str) -> bool:
    """Unchanged while it was read, and long enough before that a change would show in its time stamps."""
    return _state(file) == before and time.time() - file.stat().st_ctime > SETTLED_SECONDS


def sha256(file: Path) -> str:
    """In hexadecimal. Raises OSError."""
    with file.open("rb") as stream:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        return file_digest(stream, "sha256").hexdigest()


def _read(path: Path) -> dict[str, str]:
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError):  # none yet, or damaged: everything is read again
        return {}
    return known if isinstance(known, dict) else {}
