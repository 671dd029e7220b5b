"""How far the run is, or its data, on stderr: a bar on a terminal, a plain line now and then in a log file."""

import logging
import os
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

LINE_SECONDS = 10.0  # between two plain lines: a day of training is some 9000 lines, under 1 MB

_logger = logging.getLogger("dpo")


class _BarHandler(logging.Handler):
    """Writes log lines above the bar: tqdm clears it, writes and draws it again."""

    def __init__(self, original: logging.StreamHandler[Any]):
        super().__init__(original.level)
        self.original = original
        self.setFormatter(original.formatter)

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        try:
            tqdm.write(self.format(record), file=self.original.stream)
        except Exception:
            self.handleError(record)


class Progress:
    """Shows each logged record. `step` counts optimizer steps from the run's beginning, also after a resume."""

    def __init__(
        self,
        total_steps: int,
        start_step: int = 0,
        enabled: bool = True,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.total_steps = total_steps
        self.start_step = start_step
        self.enabled = enabled
        self._stream = stream or sys.stderr
        self._clock = clock
        self._start_seconds = clock()
        self._line_seconds: float | None = None  # when the last plain line was written
        self._bar: Any = None
        if enabled and _can_draw(self._stream):
            self._bar = self._make_bar()
            _redirect_log(self._stream)

    def update(self, step: int, record: dict[str, Any]) -> None:
        """Show that `step` steps are done with this training record; held-out records are passed over."""
        if not self.enabled or record.get("split") == "eval":
            return
        if self._bar is not None:
            self._bar.set_postfix_str("  ".join(describe(record)), refresh=False)
            self._bar.update(max(0, step - self._bar.n))
            return
        now = self._clock()
        if self._line_seconds is None or now - self._line_seconds >= LINE_SECONDS or step >= self.total_steps:
            self._line_seconds = now
            left = self._left(step, now)
            _logger.info("  ".join([f"step {step}/{self.total_steps}", *describe(record), *left]))

    def close(self) -> None:
        """Leave the bar as it stands and give the log its own handlers back. May be called twice."""
        if self._bar is None:
            return
        self._bar.close()
        self._bar = None
        _give_log_back()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make_bar(self) -> Any:
        from tqdm import tqdm

        return tqdm(
            total=self.total_steps,
            initial=self.start_step,
            file=self._stream,
            desc="train",
            dynamic_ncols=True,
            mininterval=0.2,  # seconds between two drawings
            bar_format="{desc} {percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt}  {remaining} left{postfix}",
        )

    def _left(self, step: int, now: float) -> list[str]:
        """Time left at the mean pace since the start of this process."""
        done = step - self.start_step
        if done <= 0 or step >= self.total_steps:
            return []
        seconds = (now - self._start_seconds) / done * (self.total_steps - step)
        return [f"{clock_time(seconds)} left"]


class Counting:
    """Work whose end is not known in advance: how much is done, and how fast."""

    def __init__(
        self,
        doing: str,
        unit: str,
        enabled: bool = True,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """`doing`: what the line says; `unit`: what is counted."""
        self.doing, self.unit, self.enabled = doing, unit, enabled
        self._stream, self._clock = stream or sys.stderr, clock
        self._began = self._shown = clock()
        self._done = 0
        self._bar: Any = None
        if enabled and _can_draw(self._stream):
            self._bar = self._make_bar()
            _redirect_log(self._stream)

    def add(self, count: int) -> None:
        """So many more are done."""
        self._done += count
        now = self._clock()
        if self._bar is not None:
            self._bar.update(count)
        elif self.enabled and now - self._shown >= LINE_SECONDS:
            self._shown = now
            _logger.info(self._line(now))

    def __enter__(self) -> "Counting":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Take the bar away; what took longer than a plain line's distance says how long it was."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
            _give_log_back()
        now = self._clock()
        if kind is None and self.enabled and now - self._began >= LINE_SECONDS:
            _logger.info(f"{self._line(now)}, in {clock_time(now - self._began)}")

    def _line(self, now: float) -> str:
        return (
            f"{self.doing}: {self._done:,} {self.unit}, {self._done / max(now - self._began, 1e-9):,.0f} {self.unit}/s"
        )

    def _make_bar(self) -> Any:
        from tqdm import tqdm

        return tqdm(
            file=self._stream,
            desc=self.doing,
            unit=f" {self.unit}",
            dynamic_ncols=True,
            mininterval=0.2,  # seconds between two drawings
            leave=False,
            bar_format="{desc}: {n_fmt}{unit}, {rate_fmt}, {elapsed}",
        )


def describe(record: dict[str, Any]) -> list[str]:
    """The numbers worth watching, those that the record has: loss, reward margin, accuracy, speed."""
    parts = []
    for key, label, form in (
        ("loss", "loss", ".4f"),
        ("rewards/margins", "margin", ".3f"),
        ("rewards/accuracies", "accuracy", ".2f"),
    ):
        if key in record:
            parts.append(f"{label} {record[key]:{form}}")
    if "pairs_per_second" in record:
        parts.append(f"{record['pairs_per_second']:.1f} pairs/s")
    return parts


def _redirect_log(stream: TextIO) -> None:
    """Let every terminal handler of the log write through tqdm while a bar is there."""
    for handler in list(_logger.handlers):
        if isinstance(handler, logging.StreamHandler) and handler.stream in (stream, sys.stderr):
            _logger.removeHandler(handler)
            _logger.addHandler(_BarHandler(handler))


def _give_log_back() -> None:
    for handler in list(_logger.handlers):
        if isinstance(handler, _BarHandler):
            _logger.removeHandler(handler)
            _logger.addHandler(handler.original)


def clock_time(seconds: float) -> str:
    """h:mm:ss"""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _can_draw(stream: TextIO) -> bool:
    """A terminal that knows carriage return and has a width: not a file, a pipe, TERM=dumb, or 0 columns (where a
    program opened it without telling its size, and tqdm draws nothing)."""
    if not stream.isatty() or os.environ.get("TERM") == "dumb":
        return False
    try:
        return os.get_terminal_size(stream.fileno()).columns > 0
    except (OSError, ValueError):  # a stand-in that is no file has no size to tell
        return True
