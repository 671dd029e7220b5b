"""One picture of several runs: held-out accuracy and chosen answers over steps, and where each ends."""

from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

from dpo.report import curve

# Told apart with every common colour blindness (Okabe and Ito 2008), without the yellow, which is too light for lines.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
LINES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v")

ACCURACY, GOOD, DISTANCE = "rewards/accuracies", "samples/good", "kl/chosen"


@dataclass(kw_only=True, slots=True)
class Compared:
    """One run of the picture."""

    labels: tuple[str, ...]  # its values of the settings that differ
    rows: list[dict[str, Any]]  # its records


@dataclass(kw_only=True, slots=True)
class _Style:
    colour: str
    line: Any
    marker: str


def plot_comparison(runs: list[Compared], keys: list[str], path: Path) -> None:
    """Draw `runs` into one PNG. The first of `keys`, the settings that differ, is the colour, the others the line."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # without pyplot: no global state, never a display
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    styles = _styles(runs)
    outcome = GOOD if any(GOOD in row for run in runs for row in run.rows) else ACCURACY
    figure = Figure(figsize=(14.5, 4.8), dpi=150, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08))
    FigureCanvasAgg(figure)
    accuracy, distance, both = figure.subplots(1, 3)
    for run, style in zip(runs, styles, strict=True):
        for axis, key in ((accuracy, ACCURACY), (distance, DISTANCE)):
            steps, values = curve(run.rows, "eval", key)
            axis.plot(steps, values, color=style.colour, linestyle=style.line, linewidth=1.5)
        x, y = curve(run.rows, "eval", DISTANCE)[1], curve(run.rows, "eval", outcome)[1]
        if x and y:
            both.plot(x[-1], y[-1], style.marker, color=style.colour, markersize=8, markeredgecolor="white")
    _dress(accuracy, "Held-out reward accuracy", "optimizer step", "share of pairs ranked right", baseline=0.5)
    _dress(
        distance,
        "Chosen answers against the reference",
        "optimizer step",
        "log pi - log ref on chosen, nats",
        baseline=0.0,
    )
    said = "share of good answers" if outcome == GOOD else "share of pairs ranked right"
    _dress(both, "Where each run ends", "log pi - log ref on chosen, nats", said)
    for axis in (accuracy, both):  # shares: a hundredth is not to look like a cliff
        axis.set_ylim(max(-0.02, axis.get_ylim()[0] - 0.1), 1.02)
    _legends(figure, runs, styles, keys)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _styles(runs: list[Compared]) -> list[_Style]:
    colours = dict(zip(dict.fromkeys(run.labels[:1] for run in runs), cycle(COLOURS), strict=False))
    others = dict(
        zip(dict.fromkeys(run.labels[1:] for run in runs), cycle(zip(LINES, MARKERS, strict=True)), strict=False)
    )
    return [
        _Style(colour=colours[run.labels[:1]], line=others[run.labels[1:]][0], marker=others[run.labels[1:]][1])
        for run in runs
    ]


def _dress(axis: Any, title: str, x: str, y: str, baseline: float | None = None) -> None:
    if baseline is not None:
        axis.axhline(baseline, color="#999999", linewidth=0.8, zorder=1)
    axis.set_title(title, fontsize=11, loc="left")
    axis.set_xlabel(x, fontsize=9)
    axis.set_ylabel(y, fontsize=9)
    axis.tick_params(labelsize=8)
    axis.grid(color="#e5e5e5", linewidth=0.6)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _legends(figure: Any, runs: list[Compared], styles: list[_Style], keys: list[str]) -> None:
    """Below the panels, a row for colours and one for lines and markers."""
    from matplotlib.lines import Line2D

    colours: dict[str, Any] = {}
    lines: dict[str, Any] = {}
    for run, style in zip(runs, styles, strict=True):
        colours.setdefault(", ".join(run.labels[:1]), Line2D([], [], color=style.colour, linewidth=3))
        grey = Line2D([], [], color="#555555", linestyle=style.line, marker=style.marker, markersize=6)
        lines.setdefault(", ".join(run.labels[1:]), grey)
    entries = [(f"{keys[0]} = {value}", line) for value, line in colours.items()] if keys else []
    if len(keys) > 1:
        names = ", ".join(keys[1:])
        entries += [(f"{names} = {value}", line) for value, line in lines.items()]
    if entries:
        texts, shown = zip(*entries, strict=True)
        figure.legend(shown, texts, loc="outside lower center", ncols=min(len(entries), 6), fontsize=9, frameon=False)
