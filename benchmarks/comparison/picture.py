"""The results as a picture: speed, memory, causes."""

import math
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

OURS, TRL, INK = "#2a6fdb", "#b8bec9", "#333333"
CAUSE_COLOURS = {
    "prompt per pair": ("#0b3c8c", "pairs of a prompt together"),
    "prompt per answer": ("#2a6fdb", "prompt once"),
    "padding": ("#5aa9e6", "no padding"),
    "whole head": ("#7fd1ae", "head on answers only"),
    "syncs": ("#f2c14e", "fewer syncs"),
    "reference": ("#f78154", "reference not in the step"),
    "residual": ("#c9cbd1", "residual"),
}


def draw(results: dict[str, Any], file: Path) -> None:
    """Write the PNG: a row per case; pairs/s relative to TRL, memory relative to TRL, and what the speed is made of."""
    found = results["cases"]
    explained = any("causes" in result for result in found)
    columns = 3 if explained else 2
    height = 1.9 + 0.62 * len(found)
    figure, axes = plt.subplots(
        1, columns, figsize=(4.6 * columns, height), sharey=True, layout="constrained", squeeze=False
    )
    speed, memory = axes[0][:2]
    _ratios(speed, found, "ratio", "pairs/s, TRL's best setting = 1")
    _ratios(memory, found, "memory_ratio", "peak memory above imports, TRL = 1")
    if explained:
        _causes(axes[0][2], found)
        figure.legend(fontsize=8, loc="outside lower right", ncols=len(CAUSE_COLOURS), frameon=False)
    speed.set_yticks(range(len(found)), [_label(result) for result in found])
    speed.invert_yaxis()
    where = ", ".join(dict.fromkeys(results["gpus"])) or f"{results['processor']}, {results['threads']} threads"
    versions = results["versions"]
    figure.suptitle(
        f"{results['ratio']:.1f}x the pairs per second of TRL {versions.get('trl', '')} in "
        f"{results['memory_ratio']:.2f}x the memory (geometric means)",
        fontsize=13,
        color=INK,
    )
    about = f"{where}; {results['date']}; torch {versions['torch']}"
    figure.text(0.005, 0.01, about, fontsize=8, color="#777777")
    figure.savefig(file, dpi=150)
    plt.close(figure)


def _label(result: dict[str, Any]) -> str:
    prompt, chosen, rejected = result["median_tokens"]
    return f"{result['profile']}\n{result['shape']}, {prompt:.0f}/{chosen:.0f}/{rejected:.0f}"


def _ratios(axes: Axes, found: list[dict[str, Any]], key: str, title: str) -> None:
    values = [result[key] for result in found]
    axes.barh(range(len(found)), values, height=0.55, color=OURS)
    axes.axvline(1, color=INK, linewidth=1, linestyle=":")
    axes.set_xlim(0, 1.18 * max(*values, 1.0))
    for i, value in enumerate(values):
        style: dict[str, Any] = {"va": "center", "fontsize": 9, "color": INK}
        over_the_line = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        axes.annotate(f"{value:.2f}x", (value, i), (4, 0), textcoords="offset points", bbox=over_the_line, **style)
    _plain(axes, title)


def _causes(axes: Axes, found: list[dict[str, Any]]) -> None:
    """Factors side by side on a logarithmic axis, where lengths add up as factors multiply; those below 1 go back."""
    labelled: set[str] = set()
    for i, result in enumerate(found):
        at = 1.0
        counted = [cause for cause in result.get("causes", []) if cause["counts"]]
        if not counted:
            axes.text(1.02, i, "not measured", va="center", fontsize=8, color="#777777")
            continue
        for cause in sorted(counted, key=lambda cause: cause["factor"] < 1):  # the order is kept otherwise
            _factor(axes, i, at, cause, labelled)
            at *= cause["factor"]
        axes.plot([at, at], [i - 0.36, i + 0.36], color=INK, linewidth=1.5)
    axes.set_xscale("log")
    highest = axes.get_xlim()[1]
    axes.set_xlim(1, highest)
    ticks = [tick for tick in (1, 2, 3, 5, 8, 12, 20) if tick <= highest]
    axes.set_xticks(ticks, [f"{tick}x" for tick in ticks], minor=False)
    axes.set_xticks([], minor=True)
    _plain(axes, "where the speed comes from (factors multiply)")


def _factor(axes: Axes, row: int, at: float, cause: dict[str, Any], labelled: set[str]) -> None:
    """One factor, from `at` to `at` times the factor."""
    factor = cause["factor"]
    colour, label = CAUSE_COLOURS[cause["cause"]]
    style = {"color": colour} if factor >= 1 else {"facecolor": "#ffffffb0", "edgecolor": colour, "hatch": "////"}
    axes.barh(row, at * (factor - 1), left=at, height=0.55, label=None if label in labelled else label, **style)
    labelled.add(label)
    if abs(math.log(factor)) >= 0.12:  # else there is no room
        axes.text(
            at * math.sqrt(factor),
            row,
            f"{factor:.2f}",
            va="center",
            ha="center",
            fontsize=7,
            color=_ink(colour, factor),
        )


def _ink(colour: str, factor: float) -> str:
    """Readable on the bar: white on the dark one."""
    return "white" if factor >= 1 and colour == CAUSE_COLOURS["prompt per pair"][0] else INK


def _plain(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=10, color=INK)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False, labelsize=9, colors=INK)
