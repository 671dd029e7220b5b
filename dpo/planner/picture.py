"""Memory per GPU as bars: every phase of a run, stacked by part, against what there is."""

from pathlib import Path

from dpo.planner.estimate import Estimate
from dpo.planner.memory import GIB

# Okabe and Ito's palette, which colour-blind readers can tell apart; the reserve in grey.
COLOURS = {
    "weights": "#0072B2",
    "gradients": "#E69F00",
    "optimizer": "#009E73",
    "reference": "#56B4E9",
    "activations": "#D55E00",
    "logits": "#CC79A7",
    "buffers": "#F0E442",
    "checkpoint": "#000000",
    "reserve": "#999999",
}


def draw(estimate: Estimate, path: Path) -> Path:
    """Write a PNG; the folder is made."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # without pyplot: no global state, never a display
    from matplotlib.figure import Figure

    job, phases = estimate.job, estimate.memory.phases
    figure = Figure(figsize=(8, 1.4 + 0.7 * len(phases)), dpi=150, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    names = sorted(phases, key=lambda name: sum(phases[name].values()))
    left = [0.0] * len(names)
    for part, colour in COLOURS.items():
        sizes = [phases[name].get(part, 0.0) / GIB for name in names]
        if any(sizes):
            axes.barh(names, sizes, left=left, color=colour, label=part, height=0.6)
            left = [a + b for a, b in zip(left, sizes, strict=True)]
    axes.axvline(job.device.memory_gib, color="black", linestyle="--", linewidth=1.2)
    axes.text(job.device.memory_gib, len(names) - 0.45, f" {job.device.name}", fontsize=8, va="bottom", ha="center")
    axes.set_xlabel("GiB per worker")
    axes.set_title(f"{job.model.name}, {job.workers} workers, ZeRO {job.stage}", fontsize=10, loc="left", pad=14)
    axes.legend(fontsize=7, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.28), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path
