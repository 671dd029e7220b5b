"""One launch per run: a lock that the kernel takes back however its holder ends, kill -9 included."""

import errno
import fcntl
import json
import logging
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

    def __init__(self, path: Path, wait_seconds: float = WAIT_SECONDS):
        self.path, self._wait_seconds = path, wait_seconds
        self._file: TextIO | None = None

    def take(self) -> None:
        """Raises EnvironmentProblem when another process holds it for longer than `wait_seconds`, or when the folder
        cannot be written."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.path.open("a+", encoding="utf-8")
        except OSError as error:
            raise EnvironmentProblem(f"output_dir={self.path.parent} cannot be written: {error.strerror}") from error
        if not self._acquire(file):
            raise EnvironmentProblem(f"{_holder(file)}: wait for it, or give this run another name= ({self.path})")
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
                    log.info("%s: waiting %g s for its end", _holder(file), self._wait_seconds)
                    told = True
                time.sleep(ASK_SECONDS)
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                log.warning("%s has no locks: start no second run of this name beside this one", self.path.parent)
                return True


def _holder(file: TextIO) -> str:
    """Who has it, as far as the file tells."""
    file.seek(0)
    try:
        found = json.loads(file.read())
        return f"this run is being trained by process {found['pid']} on {found['host']} since {found['since']}"
    except (ValueError, KeyError, TypeError):  # not yet written
        return "this run is being trained by another process"
