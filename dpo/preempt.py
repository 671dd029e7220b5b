"""A request to stop: a signal or the file outputs/<name>/STOP. The trainer asks at every step boundary and all workers
agree, so that none waits in a collective for one that has left."""

import logging
import os
import signal
import time
from pathlib import Path
from types import FrameType

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
SAME_SIGNAL_SECONDS = 5.0  # launcher and scheduler both deliver the same request


class StopRequest:
    """Remembers the first request; a signal more than 5 s later leaves at once, without a checkpoint."""

    def __init__(self, stop_file: Path | None = None):
        self.stop_file = stop_file
        self.reason: str | None = None
        self._since: float | None = None  # of the first signal

    def install(self) -> None:
        for number in SIGNALS:
            signal.signal(number, self._on_signal)

    def requested(self) -> bool:
        if self.reason is None and self.stop_file and self.stop_file.exists():
            self.reason = f"found {self.stop_file}"
        return self.reason is not None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._since is None:  # the file may have asked before: this is still the first signal
            self._since = now
            self.reason = self.reason or f"received {signal.Signals(number).name}"
            log.warning(
                "%s: stopping after this step, with what is done kept (5 s on, once more: at once)", self.reason
            )
        elif now - self._since > SAME_SIGNAL_SECONDS:
            os._exit(128 + number)
