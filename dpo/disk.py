"""Storage that fails while a run goes on: what to tell the user, and writes that wait until it works again."""

import errno
import logging
import os
import shutil
from collections import deque
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)
_GONE = (errno.ENOENT, errno.ESTALE, errno.EIO, errno.ENOTCONN, errno.ENODEV, errno.ETIMEDOUT)


def explain(error: BaseException, folder: Path) -> str:
    """What went wrong in `folder` and what to do about it, for the end of a sentence."""
    number = error.errno if isinstance(error, OSError) else None
    what = error.strerror if isinstance(error, OSError) and error.strerror else f"{type(error).__name__}: {error}"
    if number in _FULL:
        return f"{what} ({_free(folder)} free in {folder}): make room there"
    if number in _FORBIDDEN:
        return f"{what} in {folder}: make it writable"
    if number in _GONE:
        return f"{what} in {folder}: is the storage still mounted?"
    return f"{what} in {folder}"


def _free(folder: Path) -> str:
    try:
        return f"{shutil.disk_usage(folder).free / 1e6:.1f} MB"
    except OSError:
        return "an unknown number of bytes"


def require_folder(folder: Path) -> None:
    """Raises FileNotFoundError when `folder` is gone: making it anew would fill the disk under a lost mount."""
    if not folder.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Backlog:
    """Writes that must not end the run: one that fails waits, and all after it, and is tried again with the next.

    So nothing is lost while the process lives, and the order stays. A row is some 500 bytes of memory.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._waiting: deque[Callable[[], None]] = deque()
        self._told = False

    def __len__(self) -> int:
        return len(self._waiting)

    def write(self, action: Callable[[], None]) -> None:
        """`action` writes all or, when it raises OSError, nothing."""
        self._waiting.append(action)
        self.retry()

    def retry(self) -> None:
        while self._waiting:
            try:
                require_folder(self.folder)
                self._waiting[0]()
            except OSError as error:
                if not self._told:
                    log.warning(
                        "records cannot be written: %s. The run goes on; they are kept in memory and written when it "
                        "works again",
                        explain(error, self.folder),
                    )
                self._told = True
                return
            self._waiting.popleft()
        if self._told:
            log.info("records are written again in %s: none is missing", self.folder)
        self._told = False
