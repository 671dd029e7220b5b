"""Everything a run writes down while it goes on: metrics.jsonl, samples.jsonl, status.json, tracker, progress bar."""

import logging
import time
from contextlib import suppress
from functools import partial
from typing import Any

from dpo.disk import Backlog, explain, require_folder
from dpo.progress import Progress
from dpo.records import MetricsLog, RunFolder, append_lines, read_metrics, write_status
from dpo.symptoms import Symptoms
from dpo.track.tracker import Tracker

log = logging.getLogger(__name__)

STATUS_SECONDS = 2.0


class Recorder:
    """On the main worker it writes, on the others it does nothing. Storage that fails does not end the run."""

    def __init__(self, folder: RunFolder, tracker: Tracker, progress: Progress, symptoms: Symptoms, is_main: bool):
        self.folder, self.tracker, self.progress, self.is_main = folder, tracker, progress, is_main
        self.symptoms = symptoms
        self.metrics = MetricsLog(folder.metrics)
        self._status_written = 0.0
        self._backlog = Backlog(folder.path)
        self._unsaid: dict[str, Any] = {}  # changes of the status that could not be written
        earlier = read_metrics(folder.metrics) if is_main else []
        self.warnings = [text for row in earlier if row["split"] == "train" for text in symptoms.see(row)]

    def log(self, record: dict[str, Any]) -> None:
        """One logged step; `step` and `split` stand in the record."""
        if not self.is_main:
            return
        self._backlog.write(partial(self.metrics.append, record))
        self.tracker.log(record, record["step"])
        if record["split"] == "train":
            self.progress.update(record["step"], record)
            self._warn(record)
            self._refresh_status(record["step"])

    def _warn(self, record: dict[str, Any]) -> None:
        if found := self.symptoms.see(record):
            self.warnings += found
            self.status(warnings=self.warnings)
            for text in found:
                log.warning("%s", text)

    def _refresh_status(self, step: int) -> None:
        """status.json is synced to disk at each write, so not at every one of many short steps."""
        now = time.monotonic()
        if now - self._status_written >= STATUS_SECONDS:
            self._status_written = now
            self.status(step=step)

    def samples(self, step: int, records: list[dict[str, Any]]) -> None:
        if self.is_main:
            rows = [{"step": step, **record} for record in records]
            self._backlog.write(partial(append_lines, self.folder.samples, rows))

    def catch_up(self) -> None:
        """Tell the tracker the steps before a resume: it leaves out what it knows, and a kill may have cost it some."""
        if self.is_main:
            for record in read_metrics(self.folder.metrics):
                self.tracker.log(record, record["step"])

    def sync(self) -> None:
        """Let the metrics reach the disk. One that fails to keep them says so at the next write."""
        with suppress(OSError):
            self.metrics.sync()

    def status(self, **changes: Any) -> None:
        if not self.is_main:
            return
        told = bool(self._unsaid)
        self._unsaid |= changes
        try:
            require_folder(self.folder.path)
            write_status(self.folder, **self._unsaid)
        except OSError as error:
            if not told:
                log.warning("status.json is behind: %s. The run goes on", explain(error, self.folder.path))
        else:
            self._unsaid = {}

    def close(self, exit_code: int, summary: dict[str, Any]) -> None:
        if self.is_main:
            self.progress.close()
            self._backlog.retry()
            if self._backlog:
                log.error("%d records could not be written to %s", len(self._backlog), self.folder.path)
            self.metrics.close()
            self.tracker.summary(summary)
            self.tracker.finish(exit_code)
