"""The report at the end of a run: a table that lines up, a picture that holds what was measured."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpo.records import MetricsLog, read_metrics
from dpo.report import PANELS, plot_curves, render_table, smooth


def record(step: int, split: str = "train", **more: float) -> dict[str, Any]:
    loss = 0.6931 * math.exp(-step / 50) + (0.1 if split == "eval" else 0.0)
    rewards = {"rewards/margins": step / 50, "rewards/accuracies": 1 - 0.5 * math.exp(-step / 30)}
    return {"step": step, "split": split, "loss": loss, **rewards, **more}


def run_of(steps: int, eval_every: int) -> list[dict[str, Any]]:
    rows = [record(0, "eval")]
    for step in range(1, steps + 1):
        rows.append(record(step))
        if step % eval_every == 0 or step == steps:
            rows.append(record(step, "eval"))
    return rows


def steps_in(table: str) -> list[int]:
    return [int(line.split("|")[0]) for line in table.splitlines()[3:]]


def test_table_has_both_splits_at_first_quarters_and_last() -> None:
    table = render_table(run_of(100, 100))
    assert steps_in(table) == [0, 1, 26, 51, 75, 100]
    lines = table.splitlines()
    assert " ".join(lines[0].replace("|", " ").split()) == "loss reward margin reward accuracy"
    first = [cell.split() for cell in lines[3].split("|")]
    assert first == [["0"], ["-", "0.7931"], ["-", "+0.000"], ["-", "0.500"]]
    last = [cell.split() for cell in lines[-1].split("|")]
    assert last == [["100"], ["0.0938", "0.1938"], ["+2.000", "+2.000"], ["0.982", "0.982"]]


def test_table_columns_line_up() -> None:
    lines = render_table(run_of(100, 30)).splitlines()
    bars = [[i for i, letter in enumerate(line) if letter in "|+" and line[i - 1 : i] in (" ", "-")] for line in lines]
    bars = [[i for i in found if lines[2][i] == "+"] for found in bars]
    assert all(found == bars[2] for found in bars) and len(bars[2]) == 3
    assert len({len(line) for line in lines[1:]}) == 1


def test_table_prefers_steps_that_have_a_held_out_measurement() -> None:
    table = render_table(run_of(100, 10))
    assert steps_in(table) == [0, 1, 30, 50, 70, 100]
    assert all("-" not in line for line in table.splitlines()[5:])


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_table_of_a_tiny_run(steps: int) -> None:
    assert steps_in(render_table(run_of(steps, 100)))[-1] == steps


def test_table_of_sft_shows_loss_only() -> None:
    table = render_table([{"step": step, "split": "train", "loss": 1.0 / step} for step in range(1, 11)])
    assert "loss" in table and "margin" not in table and "accuracy" not in table
    assert steps_in(table) == [1, 3, 5, 8, 10]


def test_table_shows_nan_and_says_when_there_is_nothing() -> None:
    assert "nan" in render_table([record(1) | {"loss": math.nan}])
    assert render_table([]) == "no step was logged"


class Spy:
    """Remembers the figure that plot_curves draws."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        from matplotlib.figure import Figure

        self.figures: list[Figure] = []
        original = Figure.savefig

        def savefig(figure: Figure, *args: Any, **kwargs: Any) -> None:
            self.figures.append(figure)
            original(figure, *args, **kwargs)

        monkeypatch.setattr(Figure, "savefig", savefig)

    def lines(self, panel: int) -> dict[str, list[float]]:
        return {
            str(line.get_label()): list(np.asarray(line.get_ydata())) for line in self.figures[-1].axes[panel].lines
        }

    @property
    def titles(self) -> list[str]:
        return [axis.get_title(loc="left") for axis in self.figures[-1].axes]


def test_picture_has_three_panels_with_both_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(monkeypatch)
    path = tmp_path / "my-run" / "plots" / "curves.png"
    assert plot_curves(run_of(30, 10), path)
    assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 10_000
    assert spy.titles == [panel.title for panel in PANELS]
    assert spy.figures[-1].get_suptitle() == "my-run"
    for panel in range(3):
        lines = spy.lines(panel)
        assert len(lines["train"]) == 30 and len(lines["held-out"]) == 4
        legend = spy.figures[-1].axes[panel].get_legend()
        assert legend is not None
        assert [text.get_text() for text in legend.get_texts()] == ["train", "held-out"]


def test_picture_smooths_a_long_run_and_keeps_the_raw_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(monkeypatch)
    rows = [record(step) | {"loss": 1.0 + (-1) ** step} for step in range(1, 201)]
    plot_curves(rows, tmp_path / "curves.png")
    lines = spy.lines(0)
    raw = next(values for values in lines.values() if set(values) == {0.0, 2.0})
    smoothed = next(values for label, values in lines.items() if label.startswith("train (mean of"))
    assert len(raw) == len(smoothed) == 200
    assert max(smoothed) - min(smoothed) < 0.5
    assert (spy.figures[-1].axes[0].lines[0].get_alpha() or 1.0) < 0.5


def test_picture_of_sft_has_one_panel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(monkeypatch)
    rows = [
        {"step": step, "split": split, "loss": 1.0 / (step + 1)} for step in range(9) for split in ("train", "eval")
    ]
    assert plot_curves(rows, tmp_path / "curves.png", title="sft")
    assert spy.titles == ["Loss"] and spy.figures[-1].get_suptitle() == "sft"


def test_picture_survives_nan_and_is_not_made_from_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(monkeypatch)
    metrics = tmp_path / "metrics.jsonl"
    with MetricsLog(metrics) as log:
        log.append(record(1))
        log.append(record(2) | {"loss": math.nan, "rewards/margins": math.inf})
    assert plot_curves(read_metrics(metrics), tmp_path / "curves.png")
    assert len(spy.lines(0)["train"]) == 1 and len(spy.lines(2)["train"]) == 2
    assert not plot_curves([{"step": 1, "loss": math.nan}], tmp_path / "none.png")
    assert not plot_curves([], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_smoothing_keeps_length_constants_and_local_means() -> None:
    assert smooth([2.0] * 7, 5) == [2.0] * 7
    assert smooth([0.0, 3.0, 6.0, 3.0, 0.0], 3) == [1.5, 3.0, 4.0, 3.0, 1.5]
