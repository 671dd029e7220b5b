"""A request to stop: a signal, the file outputs/<name>/STOP, or `checkpoint.deadline`. Any worker may get it; all leave
at one point that they agree on, so that none waits in a collective for one that is gone."""

import _thread
import logging
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, TypeVar

from dpo.deadline import seconds_left

log = logging.getLogger(__name__)

T = TypeVar("T")

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
WAKE = signal.SIGUSR2  # runs its handler in the main thread; never sent to any process
SAME_SIGNAL_SECONDS = 5.0  # launcher and scheduler both deliver the same request
LOOK_SECONDS = 0.25  # between two looks for the file: each is a round trip on a network file system


class Stopped(BaseException):
    """The workers leave on request. Like KeyboardInterrupt no Exception: libraries swallow those."""


class Workers(Protocol):
    """What agreeing needs of the other workers."""

    def agree(self, flag: bool) -> bool:
        """True on all when it is true on one."""

    def collect(self, value: Any) -> list[Any]: ...


class StopRequest:
    """Remembers the first request. A signal more than 5 s after the first one leaves at once, without a checkpoint.

    Two who listen: Python's handler, between two instructions of the main thread, notes the request; a thread hears the
    later signal even while the main thread waits in a collective for a worker that hangs, and looks for file and
    deadline, so that asking costs the training loop nothing.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._since: float | None = None  # of the request, as all times here on the monotonic clock
        self._first_signal: float | None = None  # the file may have asked before: this is still the first signal
        self._began, self._began_at = time.monotonic(), datetime.now().astimezone()
        self._file: Path | None = None
        self._deadline: tuple[float, str] | None = None  # when, and the setting as given
        self._workers: Workers | None = None
        self._interrupts = False  # whether a request ends what the main thread is doing

    def install(self) -> None:
        """Listen from here on. Call it in the main thread, before imports that take seconds."""
        ear, mouth = socket.socketpair()
        mouth.setblocking(False)
        for number in SIGNALS:
            signal.signal(number, self._on_signal)
        signal.signal(WAKE, self._on_wake)
        signal.set_wakeup_fd(mouth.fileno())
        threading.Thread(target=self._listen, args=(ear, mouth), name="stop", daemon=True).start()

    def set_deadline(self, setting: str | None) -> float | None:
        """`checkpoint.deadline`, durations since this object was made. Returns the seconds left, None without one.

        Raises:
            ValueError: see `seconds_left`.
        """
        seconds = seconds_left(setting, self._began_at, os.environ)
        if seconds is None:
            return None
        self._deadline = (self._began + seconds, str(setting))
        return self._deadline[0] - time.monotonic()

    def watch(self, file: Path) -> None:
        """The file asks to stop as soon as it is there."""
        self._file = file

    def join(self, workers: Workers) -> None:
        """From here on `check` is a collective."""
        self._workers = workers

    def interrupt(self, reason: str) -> None:
        """Asked by another part of this program: the others cannot go on. What this worker does by itself ends now."""
        self._ask(reason)
        if self._interrupts:
            _thread.interrupt_main(WAKE)

    def requested(self) -> bool:
        """Of this worker alone, so far."""
        return self.reason is not None

    def seconds(self) -> float:
        """Since the request; 0.0 without one."""
        return 0.0 if self._since is None else time.monotonic() - self._since

    def check(self) -> None:
        """All workers together: has one of them been asked? Then all know why and since when.

        Raises:
            Stopped: on every worker.
        """
        if self._workers is None:
            agreed = self.requested()
        elif agreed := self._workers.agree(self.requested()):
            everyone = self._workers.collect((self.reason, self.seconds()))
            rank, (self.reason, _) = next((r, found) for r, found in enumerate(everyone) if found[0])
            if rank:
                self.reason = f"worker {rank} {self.reason}"
            self._since = time.monotonic() - max(seconds for _, seconds in everyone)
        if agreed:
            raise Stopped(self.reason)

    def alone(self, work: Callable[[], T]) -> T:
        """What each worker does for itself, for however long: a request interrupts it at once, as Ctrl-C would. The
        others may be further, so behind it all agree. A collective.

        Raises:
            Stopped: on every worker.
        """
        done: list[T] = []
        try:
            self._interrupts = True
            if not self.requested():
                done.append(work())
            self._interrupts = False  # here too: a request that comes from here on would be raised past `except`
        except Stopped:
            pass
        finally:
            self._interrupts = False
        self.check()
        return done[0]

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._ask(f"received {signal.Signals(number).name}")
        self._interrupt()

    def _on_wake(self, number: int, frame: FrameType | None) -> None:
        if self.requested():
            self._interrupt()

    def _interrupt(self) -> None:
        if self._interrupts:
            self._interrupts = False  # once: cleaning up is not interrupted
            raise Stopped(self.reason)

    def _ask(self, reason: str, since: float | None = None) -> None:
        if self.reason is None:
            self._since = time.monotonic() if since is None else since
            self.reason = reason

    def _listen(self, ear: socket.socket, mouth: socket.socket) -> None:
        """The thread. It holds `mouth`, where Python writes the number of each signal, so that nobody closes it."""
        while True:
            if select.select([ear], [], [], LOOK_SECONDS)[0]:
                for number in ear.recv(64):
                    self._hear(number)
            self._look()

    def _hear(self, number: int) -> None:
        if number not in SIGNALS:
            return
        now = time.monotonic()
        if self._first_signal is None:
            self._first_signal = now
            name = signal.Signals(number).name
            log.warning("received %s: stopping, with what is done kept (5 s on, once more: at once)", name)
        elif now - self._first_signal > SAME_SIGNAL_SECONDS:
            os._exit(128 + number)

    def _look(self) -> None:
        """For what asks without a signal."""
        if self.requested():
            return
        if self._file and self._file.exists():
            self._ask(f"found {self._file}")
        elif self._deadline and time.monotonic() >= self._deadline[0]:
            self._ask(f"reached checkpoint.deadline={self._deadline[1]}", self._deadline[0])
        if self.requested():
            log.warning("%s: stopping, with what is done kept", self.reason)
            if self._interrupts:
                _thread.interrupt_main(WAKE)
