"""One run for TensorBoard: an event file that says what metrics.jsonl says, under the names that W&B shows.

Written with the parts of the tensorboard package that do so at once. Its own writer, which torch's SummaryWriter wraps,
keeps a queue and a thread: a kill loses two minutes, and a full disk shows as that thread's stack on the terminal.
"""

import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from dpo.histogram import with_edges
from dpo.redact import redact
from dpo.track.limits import first_line
from dpo.track.tracker import histograms, metric_names

NAME = "events.out.tfevents."  # by which TensorBoard knows the files of a folder

_logger = logging.getLogger("dpo")


@dataclass(kw_only=True, slots=True)
class TensorboardTracker:
    """Begins a new file with every launch, told everything from the first step: no step stands there twice, whatever
    a kill left of the one before. Its first failure is told in one line and ends it; the run goes on."""

    folder: Path
    _file: Any = field(default=None, init=False, repr=False)
    _times: dict[int, float] = field(default_factory=dict, init=False, repr=False)  # of earlier launches, by step

    def start(self, config: dict[str, Any], name: str, wandb_id: str | None = None) -> str | None:
        """Hands the id back: it is W&B's."""
        self._attempt(lambda: self._start(config))
        return wandb_id

    def log(self, record: dict[str, Any], step: int) -> None:
        """All of a record in one entry, with the time at which it was first told."""
        if self._file is not None:
            self._attempt(lambda: self._log(record, step))

    def summary(self, values: dict[str, Any]) -> None:
        """TensorBoard has no table of runs; the last entries say the same."""

    def finish(self, exit_code: int = 0) -> None:
        """Close the file."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                file.close()

    def _start(self, config: dict[str, Any]) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter
        from torch.utils.tensorboard.summary import text

        self.folder.mkdir(parents=True, exist_ok=True)
        earlier = list(self.folder.glob(f"{NAME}*"))
        self._times = dict(_told(earlier))
        for path in earlier:
            path.unlink()
        # Seconds first: TensorBoard reads files in the order of their names.
        path = self.folder / f"{NAME}{time.time():.6f}.{socket.gethostname()}"
        self._file = RecordWriter(path.open("wb"))
        self._write(wall_time=time.time(), file_version="brain.Event:2")
        settings = json.dumps(redact(config, os.environ), indent=2, default=str).splitlines()
        shown = text("config", "\n".join(f"    {line}" for line in settings))  # indented by four: as it is, in Markdown
        self._write(wall_time=time.time(), step=0, summary=shown)
        _logger.info("tensorboard: tensorboard --logdir %s", self.folder.parent)

    def _log(self, record: dict[str, Any], step: int) -> None:
        from torch.utils.tensorboard import summary

        values = [part for key, value in metric_names(record).items() for part in summary.scalar(key, value).value]
        values += [_histogram(key, value) for key, value in histograms(record).items()]
        self._write(step=step, wall_time=self._times.get(step, time.time()), summary=summary.Summary(value=values))

    def _write(self, **event: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._file.write(Event(**event).SerializeToString())
        self._file.flush()

    def _attempt(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        _logger.warning(
            "tensorboard: %s cannot be written and is given up; metrics.jsonl has all numbers, and a later launch of "
            "this run begins it again (%s)",
            self.folder,
            first_line(error),
        )
        self.finish()


def _told(files: list[Path]) -> Iterator[tuple[int, float]]:
    """(step, time) of every entry that was told; nothing where that cannot be read."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event

    with suppress(Exception):
        for path in files:
            for raw in RawEventFileLoader(str(path)).Load():
                event = Event.FromString(raw)
                if event.HasField("summary"):
                    yield event.step, event.wall_time


def _histogram(name: str, bins: dict[str, int]) -> Any:
    """As one value of an entry. TensorBoard draws the buckets; the sums are taken from their middles."""
    from torch.utils.tensorboard.summary import histogram_raw

    edges, counts = with_edges(bins)
    middles = [(low + high) / 2 for low, high in pairwise(edges)]
    total = sum(count * middle for count, middle in zip(counts, middles, strict=True))
    squares = sum(count * middle**2 for count, middle in zip(counts, middles, strict=True))
    # Its first bucket is drawn from the least float: an empty one gives it an end.
    summary = histogram_raw(name, edges[0], edges[-1], sum(counts), total, squares, edges, [0, *counts])
    return summary.value[0]
