"""What a run has done, from its metrics.jsonl: a table for the terminal and one picture of the curves."""

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)
SMOOTH_FROM = 50  # points of the training curve above which a running mean is drawn over the raw values


@dataclass(kw_only=True, slots=True)
class Panel:
    """One measured quantity: its key in the records, its words, its format and the value that means no effect."""

    key: str
    title: str
    label: str
    form: str
    baseline: float | None


PANELS = (
    Panel(key="loss", title="Loss", label="loss (nats)", form=".4f", baseline=None),
    Panel(key="rewards/margins", title="Reward margin", label="reward, chosen - rejected", form="+.3f", baseline=0.0),
    Panel(
        key="rewards/accuracies", title="Reward accuracy", label="share of pairs ranked right", form=".3f", baseline=0.5
    ),
)


def render_table(rows: list[dict[str, Any]]) -> str:
    """A plain-text table of a run's records: training and held-out numbers at the first, middle and last steps.

    Training numbers are those of the one logged step, over its batch. A held-out measurement close to a quarter of the
    run takes that row; "-" where nothing was measured at that step.
    """
    if not rows:
        return "no step was logged"
    train, held_out = _by_step(rows, "train"), _by_step(rows, "eval")
    panels = [panel for panel in PANELS if any(panel.key in row for row in rows)]
    body = []
    for step in _table_steps(sorted(train), sorted(held_out)):
        cells = [str(step)]
        for panel in panels:
            cells += [_cell(split.get(step, {}).get(panel.key), panel.form) for split in (train, held_out)]
        body.append(cells)
    return _align(["step"] + ["train", "held-out"] * len(panels), body, [panel.title.lower() for panel in panels])


def _by_step(rows: list[dict[str, Any]], split: str) -> dict[int, dict[str, Any]]:
    """The records of one split; of two with the same step, the later."""
    return {row["step"]: row for row in rows if row.get("split", "train") == split and "step" in row}


def _table_steps(train: list[int], held_out: list[int]) -> list[int]:
    """Steps at the quarters of the training records, moved to a held-out step nearby, and both ends of each split."""
    if not train:
        return held_out
    steps = {train[0], train[-1], *held_out[:1], *held_out[-1:]}
    reach = (train[-1] - train[0]) / 8  # half the way to the next quarter
    both = set(train) & set(held_out)
    for quarter in QUARTERS[1:-1]:
        step = train[round(quarter * (len(train) - 1))]
        near = [other for other in both if abs(other - step) <= reach]
        steps.add(min(near, key=lambda other: (abs(other - step), other)) if near else step)
    return sorted(steps)


def _cell(value: Any, form: str) -> str:
    return f"{value:{form}}" if isinstance(value, int | float) else "-"


def _align(head: list[str], body: list[list[str]], groups: Sequence[str]) -> str:
    """Right-aligned columns; each group name stands centred over its two columns."""
    widths = [max(len(row[i]) for row in [head, *body]) for i in range(len(head))]
    spans = [widths[i] + 2 + widths[i + 1] for i in range(1, len(head), 2)]
    for i, (group, span) in enumerate(zip(groups, spans, strict=True)):
        missing = max(0, len(group) - span)  # a name wider than its numbers widens the first of its columns
        widths[1 + 2 * i] += missing
        spans[i] += missing
    top = " | ".join([" " * widths[0]] + [group.center(span) for group, span in zip(groups, spans, strict=True)])
    rule = "-+-".join("-" * width for width in [widths[0], *spans])
    return "\n".join([top.rstrip(), *(_line(cells, widths) for cells in [head]), rule]) + "".join(
        "\n" + _line(cells, widths) for cells in body
    )


def _line(cells: list[str], widths: list[int]) -> str:
    padded = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
    pairs = ["  ".join(padded[i : i + 2]) for i in range(1, len(padded), 2)]
    return " | ".join([padded[0], *pairs])


def plot_curves(rows: list[dict[str, Any]], path: Path | str, title: str | None = None) -> bool:
    """Draw loss, reward margin and accuracy over steps, training and held-out, into one PNG at `path`.

    Quantities without a finite value are left out (supervised fine-tuning has a loss only); with none at all no file
    is written and False comes back. `title` defaults to the run's name, taken from outputs/<name>/plots/<file>.
    """
    panels = [panel for panel in PANELS if any(curve(rows, split, panel.key)[0] for split in ("train", "eval"))]
    if not panels:
        return False
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # without pyplot: no global state, never a display
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    path = Path(path)
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08)  # inches
    figure = Figure(figsize=(4.6 * len(panels) + 0.6, 4.2), dpi=150, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, panel in zip(axes, panels, strict=True):
        _draw(axis, panel, rows)
    name = title or (path.parent.parent.name if path.parent.name == "plots" else path.parent.name)
    wrapped = "\n".join(textwrap.wrap(name, width=42 * len(panels))[:3])  # run names are long: no cut at the edge
    figure.suptitle(wrapped, fontsize=12, fontweight="bold", x=0.012, ha="left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return True


TRAIN_COLOUR, HELD_OUT_COLOUR = "#2c6fbb", "#d95f02"  # told apart with every common colour blindness


def _draw(axis: Any, panel: Panel, rows: list[dict[str, Any]]) -> None:
    """One panel: faint raw training values with their running mean, held-out points, the value of no effect."""
    if panel.baseline is not None:
        axis.axhline(panel.baseline, color="#999999", linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    steps, values = curve(rows, "train", panel.key)
    if len(values) > SMOOTH_FROM:
        window = max(3, len(values) // 20)
        axis.plot(steps, values, color=TRAIN_COLOUR, linewidth=0.7, alpha=0.25, zorder=2)
        label = f"train (mean of {2 * (window // 2) + 1})"
        axis.plot(steps, smooth(values, window), color=TRAIN_COLOUR, linewidth=1.8, label=label, zorder=3)
    elif values:
        marker = "o" if len(values) < 20 else None  # a single point has no line to be seen by
        axis.plot(steps, values, color=TRAIN_COLOUR, linewidth=1.6, marker=marker, markersize=3, label="train")
    steps, values = curve(rows, "eval", panel.key)
    if values:
        style: dict[str, Any] = {"marker": "o", "markersize": 4.5, "markeredgecolor": "white", "markeredgewidth": 0.6}
        if len(values) == 2:  # before and after: nobody measured that the way between them was straight
            style |= {"linestyle": ":"}
        axis.plot(steps, values, color=HELD_OUT_COLOUR, linewidth=1.6, label="held-out", zorder=4, **style)
    _dress(axis, panel)


def _dress(axis: Any, panel: Panel) -> None:
    """Titles, light grid, integer steps."""
    from matplotlib.ticker import MaxNLocator

    axis.set_title(panel.title, fontsize=11, loc="left")
    axis.set_xlabel("optimizer step", fontsize=9)
    axis.set_ylabel(panel.label, fontsize=9)
    axis.tick_params(labelsize=8)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axis.grid(color="#e5e5e5", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.margins(x=0.02)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    if panel.key == "rewards/accuracies":
        axis.set_ylim(*_accuracy_range(axis))
    axis.legend(fontsize=8, frameon=False, loc="best")


def _accuracy_range(axis: Any) -> tuple[float, float]:
    """All of what was measured, with chance and perfection always in view."""
    low, _ = axis.get_ylim()
    return max(-0.02, min(low, 0.45)), 1.02


def curve(rows: Iterable[dict[str, Any]], split: str, key: str) -> tuple[list[int], list[float]]:
    """Steps and finite values of one quantity."""
    points = [(row["step"], row[key]) for row in rows if row.get("split", "train") == split and key in row]
    finite = sorted((step, value) for step, value in points if isinstance(value, int | float) and math.isfinite(value))
    return [step for step, _ in finite], [value for _, value in finite]


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Centred running mean over about `window` values, down to half of them at both ends; as many as came in."""
    half = window // 2
    parts = [values[max(0, i - half) : i + half + 1] for i in range(len(values))]
    return [sum(part) / len(part) for part in parts]
