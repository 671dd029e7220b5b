"""What shows a run's numbers besides metrics.jsonl, whichever it is."""

from dataclasses import dataclass
from typing import Any, Protocol


class Tracker(Protocol):
    """Receives one run's numbers."""

    def start(self, config: dict[str, Any], name: str, wandb_id: str | None = None) -> str | None:
        """Begin, or go on under `wandb_id`; returns the id to keep for a resume."""

    def log(self, record: dict[str, Any], step: int) -> None:
        """Show one record of metrics.jsonl; steps never go back."""

    def summary(self, values: dict[str, Any]) -> None:
        """Set results of the whole run."""

    def finish(self, exit_code: int = 0) -> None:
        """End, marked as failed unless `exit_code` is 0."""


class NullTracker:
    """No tracking: on every worker but the first, and where it is switched off."""

    def start(self, config: dict[str, Any], name: str, wandb_id: str | None = None) -> str | None:
        """Hands the id back, so that tracking can be switched on again later."""
        return wandb_id

    def log(self, record: dict[str, Any], step: int) -> None:
        """Does nothing."""

    def summary(self, values: dict[str, Any]) -> None:
        """Does nothing."""

    def finish(self, exit_code: int = 0) -> None:
        """Does nothing."""


@dataclass(kw_only=True, slots=True)
class Several:
    """More than one at a time; none of them raises."""

    trackers: list[Tracker]

    def start(self, config: dict[str, Any], name: str, wandb_id: str | None = None) -> str | None:
        """The id is that of the one which has some."""
        for tracker in self.trackers:
            wandb_id = tracker.start(config, name, wandb_id)
        return wandb_id

    def log(self, record: dict[str, Any], step: int) -> None:
        """To each."""
        for tracker in self.trackers:
            tracker.log(record, step)

    def summary(self, values: dict[str, Any]) -> None:
        """To each."""
        for tracker in self.trackers:
            tracker.summary(values)

    def finish(self, exit_code: int = 0) -> None:
        """To each."""
        for tracker in self.trackers:
            tracker.finish(exit_code)


def metric_names(record: dict[str, Any]) -> dict[str, float]:
    """The numbers of one record under the names W&B and TensorBoard show: `rewards/margins`, `eval/rewards/margins`."""
    numbers = {key: value for key, value in record.items() if isinstance(value, int | float) and key != "step"}
    return {_prefix(record) + key: value for key, value in numbers.items()}


def histograms(record: dict[str, Any]) -> dict[str, dict[str, int]]:
    """Those of one record, as dpo.histogram.by_bin makes them, under the same names."""
    return {_prefix(record) + key: value for key, value in record.items() if isinstance(value, dict) and value}


def _prefix(record: dict[str, Any]) -> str:
    return "eval/" if record.get("split") == "eval" else ""
