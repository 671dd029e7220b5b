"""One run at Weights & Biases.

Tracking is a convenience. Nothing here may stop a run, hold it up for long, or ask a question on the terminal: every
call into wandb runs under a time limit, and its first failure is told in one line and switches tracking off.
"""

import logging
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from dpo.histogram import with_edges
from dpo.redact import redact
from dpo.track.limits import first_line, within
from dpo.track.reach import can_connect, has_key
from dpo.track.tracker import histograms, metric_names
from dpo.track.wandb_file import Told, told

# Seconds. With its defaults wandb 0.31 waits 101 s for a server that is not there, and for over 140 s at the end of a
# run whose server went away.
INIT_SECONDS = 10.0  # may wandb.init wait for the server
FINISH_SECONDS = 10.0  # may the last upload take; what is missing then stays on disk
CALL_SECONDS = 20.0  # may any call take, when wandb's helper process hangs and its own limits with it
TEARDOWN_SECONDS = 5.0  # may the end of that helper take, its work being done or given up; 0.01 as a rule
FLUSH_SECONDS = 1.0  # between writes of an offline file; wandb's 15 s lost everything in a kill before that

_logger = logging.getLogger("dpo")
_Result = TypeVar("_Result")


@dataclass(kw_only=True, slots=True)
class WandbTracker:
    """One Weights & Biases run: online, or in an offline folder for `wandb sync`."""

    folder: Path  # the run's own; wandb makes wandb/ inside
    mode: str = "auto"  # online | offline | auto: online where an API key is found
    project: str = "dpo"
    entity: str | None = None  # null: WANDB_ENTITY, else the account's default
    _run: Any = field(default=None, init=False, repr=False)
    _told: Told = field(default_factory=dict, init=False, repr=False)  # by earlier launches, offline

    def start(self, config: dict[str, Any], name: str, wandb_id: str | None = None) -> str | None:
        """Begin, within about 20 s also where the server is not there: offline then, under the same id."""
        run_id = wandb_id or secrets.token_hex(4)
        if wandb_id:
            self._told = self._told_before(wandb_id)
        call = {"name": name, "id": run_id, "config": redact(config, os.environ)}
        self._run = self._attempt("start", lambda: self._start(call))
        return run_id

    def log(self, record: dict[str, Any], step: int) -> None:
        """Numbers keep their names, held-out ones get `eval/` in front.

        After a resume some are told again. wandb drops steps that its server knows; `wandb sync` of two offline files
        would show them twice, so what an earlier file holds is left out.
        """
        known = self._told.get(step, frozenset())
        shown = metric_names(record) | histograms(record)
        row = {key: value for key, value in shown.items() if key not in known}
        if self._run is not None and row:
            self._attempt("log", lambda: self._run.log(_as_media(row), step=step))

    def summary(self, values: dict[str, Any]) -> None:
        """Set results of the whole run, such as the number of parameters or the final held-out accuracy."""
        if self._run is not None:
            self._attempt("summary", lambda: self._run.summary.update(values))

    def finish(self, exit_code: int = 0) -> None:
        """Send what is left, for at most FINISH_SECONDS, and end wandb's helper process."""
        if self._run is not None:
            self._attempt("finish", lambda: self._run.finish(exit_code=exit_code))
            self._run = None
            _teardown()

    def _told_before(self, run_id: str) -> Told:
        """What cannot be read is told twice rather than not at all."""
        try:
            return within(CALL_SECONDS, lambda: told(self.folder, run_id))
        except Exception as error:
            _logger.debug("wandb: earlier offline files cannot be read: %s", first_line(error))
            return {}

    def _start(self, call: dict[str, Any]) -> Any:
        # wandb's reports about itself go to the same server: 20 s more at exit where that one does not answer, and
        # lines on stderr where it refuses them (0.31). Read at import.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        self.folder.mkdir(parents=True, exist_ok=True)
        with _clean_environment():
            # Also for messages outside any run, such as the one about the key that was found.
            wandb.setup(wandb.Settings(silent=True))
            offline_because = self._why_offline(wandb.setup().settings.base_url)
            if offline_because is None:
                try:
                    return self._init(call, "online")
                except Exception as error:
                    offline_because = first_line(error)
                    wandb.teardown()  # without it the second init inherits the state of the first
                    wandb.setup(wandb.Settings(silent=True))
            return self._init(call, "offline", offline_because)

    def _why_offline(self, base_url: str) -> str | None:
        """The reason for not going online ("" where it was asked for), or None to try it."""
        if self.mode == "offline":
            return ""
        if not has_key(base_url, os.environ):  # wandb would ask for one on a terminal, without end
            return "no API key, see `wandb login`" if self.mode == "online" else "no API key"
        if not can_connect(base_url):
            return f"{base_url} cannot be reached"
        return None

    def _init(self, call: dict[str, Any], mode: str, because: str = "") -> Any:
        import wandb

        run = wandb.init(
            **call,
            project=self.project,
            entity=self.entity,
            dir=str(self.folder),
            resume="allow",
            settings=_run_settings(mode),
        )
        if mode == "online":
            _logger.info("wandb: %s", run.url)
        else:
            reason = f" ({because})" if because else ""
            _logger.info("wandb: offline%s, upload later with: wandb sync %s", reason, run.settings.sync_dir)
        return run

    def _attempt(self, what: str, call: Callable[[], _Result]) -> _Result | None:
        """Do one thing with wandb; the first failure switches tracking off."""
        try:
            return within(CALL_SECONDS if what != "start" else 2 * CALL_SECONDS, call)
        except Exception as error:
            _logger.warning(
                "wandb %s failed, tracking is off from here on; metrics.jsonl has all numbers (%s)",
                what,
                first_line(error),
            )
            self._run = None
            _teardown()
            return None


def _as_media(row: dict[str, Any]) -> dict[str, Any]:
    """Histograms as wandb takes them."""
    import wandb

    def shown(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        edges, counts = with_edges(value)
        return wandb.Histogram(np_histogram=(counts, edges))

    return {key: shown(value) for key, value in row.items()}


def _run_settings(mode: str) -> Any:
    import wandb

    command_line = " ".join(sys.argv)
    return wandb.Settings(
        mode="online" if mode == "online" else "offline",
        silent=True,  # one line of our own says where the run is
        console="off",  # our stderr is ours: no capture, no copy of it in the cloud
        disable_code=True,  # no source code and no diff of the working tree is uploaded
        x_disable_meta=redact(command_line, os.environ) != command_line,  # it holds the command line
        init_timeout=INIT_SECONDS,
        login_timeout=1.0,  # should wandb ask all the same, it gives up at once
        finish_timeout=FINISH_SECONDS,
        x_service_wait=INIT_SECONDS,
        x_transaction_log_flush_interval=FLUSH_SECONDS,
    )


@contextmanager
def _clean_environment() -> Iterator[None]:
    """Take away variables that wandb chokes on: empty ones, and WANDB_MODE, which is decided here."""
    taken = {name: value for name, value in os.environ.items() if name.startswith("WANDB_") and not value.strip()}
    if "WANDB_MODE" in os.environ:
        taken["WANDB_MODE"] = os.environ["WANDB_MODE"]
    for name in taken:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(taken)


def _teardown() -> None:
    """End wandb's helper process and take back its exit hook, which would wait for a dead or hanging helper."""

    def call() -> None:
        import wandb

        wandb.teardown()

    try:
        within(TEARDOWN_SECONDS, call)
    except Exception as error:
        _logger.debug("wandb teardown: %s", first_line(error))
