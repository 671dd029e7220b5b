"""Several finished runs beside each other: a table of their last held-out numbers, and one picture."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dpo.columns import columns
from dpo.config.compose import read_yaml
from dpo.records import RunFolder, read_metrics
from dpo.report_sweep import Compared, plot_comparison
from dpo.verify import deciding, last_held_out

SHOWN = ("loss", "rewards/accuracies", "rewards/margins", "kl/chosen", "kl/samples")


@dataclass(kw_only=True, slots=True)
class _Run:
    name: str
    settings: dict[str, Any]  # that decide its result
    last: dict[str, Any]  # held-out numbers
    rows: list[dict[str, Any]] = field(repr=False)


def compare(folders: list[RunFolder], picture: Path) -> str:
    """The text, once `picture` is drawn.

    Raises:
        RunError: one of them is no run, is not finished, or has held out nothing.
    """
    runs = [_read(folder) for folder in folders]
    keys = differing([run.settings for run in runs])
    labels = [tuple(str(run.settings.get(key, "-")) for key in keys) for run in runs]
    numbers = [key for key in SHOWN if any(key in run.last for run in runs)]
    numbers += sorted({key for run in runs for key in run.last if key.startswith("samples/")})
    rows = [
        (run.name, *label, *(_cell(run.last.get(key)) for key in numbers))
        for run, label in zip(runs, labels, strict=True)
    ]
    compared = [Compared(labels=label, rows=run.rows) for run, label in zip(runs, labels, strict=True)]
    plot_comparison(compared, list(keys), picture)
    lines = ["Held-out numbers after the last step:", *columns([("run", *keys, *numbers), *rows])]
    return "\n".join([*lines, "", f"  picture  {picture}"]) + "\n"


def differing(settings: list[dict[str, Any]]) -> list[str]:
    """Settings that are not the same in all that have them; the name of the loss, then its knobs, first."""
    keys = dict.fromkeys(key for one in settings for key in one)
    found = [key for key in keys if len({str(one[key]) for one in settings if key in one}) > 1]
    return sorted(found, key=lambda key: (key != "loss.name", not key.startswith("loss."), key))


def _read(folder: RunFolder) -> _Run:
    last = last_held_out(folder)
    return _Run(
        name=folder.name, settings=deciding(read_yaml(folder.config)), last=last, rows=read_metrics(folder.metrics)
    )


def _cell(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, int | float) else "-"
