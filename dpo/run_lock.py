"""One launch per run, one job that prepares the same data: a lock that the kernel takes back however its holder ends,
kill -9 included."""

import errno
import fcntl
import json
import logging
import math
import os
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from dpo.errors import EnvironmentProblem

log = logging.getLogger(__name__)

WAIT_SECONDS = 10.0  # what a killed launch left behind may still be writing its checkpoint
ASK_SECONDS = 0.2
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # file systems without flock (some of NFS, Lustre, FUSE)


class RunLock:
    """Held from `take` until the process ends. The file stays: to remove it while another launch opens it would let
    two hold a lock each."""

    def __init__(
        self,
        path: Path,
        wait_seconds: float = WAIT_SECONDS,
        doing: str = "this run is being trained",
        setting: str = "output_dir",
    ):
        """`doing`: what its holder does; `setting`: what names the folder of `path`; both for messages."""
        self.path, self._wait_seconds, self._doing, self._setting = path, wait_seconds, doing, setting
        self._file: TextIO | None = None

    def take(self) -> None:
        """Raises EnvironmentProblem when another process holds it for longer than `wait_seconds`, or when the folder
        cannot be written."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.path.open("a+", encoding="utf-8")
        except OSError as error:
            raise EnvironmentProblem(
                f"{self._setting}={self.path.parent} cannot be written: {error.strerror}"
            ) from error
        if not self._acquire(file):
            raise EnvironmentProblem(f"{self._holder(file)}: wait for it, or give this run another name= ({self.path})")
        file.truncate(0)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        file.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "since": now}) + "\n")
        file.flush()
        self._file = file

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _acquire(self, file: TextIO) -> bool:
        """False when another process still holds it after `wait_seconds`."""
        end = time.monotonic() + self._wait_seconds
        told = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if time.monotonic() > end:
                    return False
                if not told:
                    limit = f" {self._wait_seconds:g} s" if math.isfinite(self._wait_seconds) else ""
                    log.info("%s: waiting%s for its end", self._holder(file), limit)
                    told = True
                time.sleep(ASK_SECONDS)
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                log.warning("%s has no locks: start no second job like this one beside it", self.path.parent)
                return True

    def _holder(self, file: TextIO) -> str:
        """Who has it, as far as the file tells."""
        file.seek(0)
        try:
            found = json.loads(file.read())
            return f"{self._doing} by process {found['pid']} on {found['host']} since {found['since']}"
        except (ValueError, KeyError, TypeError):  # not yet written
            return f"{self._doing} by another process"


def is_held(path: Path) -> bool:
    """Whether a launch holds the lock now, without waiting and without taking it."""
    try:
        with path.open(encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no such file, or a file system without locks
        return False
    return False
