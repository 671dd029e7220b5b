"""Memory per GPU as bars: every phase of a run, stacked by part, against what there is."""

from pathlib import Path

from dpo.planner.estimate import Estimate
from dpo.planner.memory import GIB, PARTS

# Okabe and Ito's palette, which colour-blind readers can tell apart, in the order of PARTS; the reserve in grey.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#56B4E9", "#D55E00", "#CC79A7", "#F0E442", "#000000", "#999999")


def draw(estimate: Estimate, path: Path) -> Path:
    """Write a PNG; the folder is made."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # without pyplot: no global state, never a display
    from matplotlib.figure import Figure

    job, phases = estimate.job, estimate.memory.phases
    figure = Figure(figsize=(8, 1.5 + 0.6 * len(phases)), dpi=150, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    names = sorted(phases, key=lambda name: sum(phases[name].values()))
    left = [0.0] * len(names)
    for part, colour in zip(PARTS, PALETTE, strict=True):
        sizes = [phases[name].get(part, 0.0) / GIB for name in names]
        if any(sizes):
            axes.barh(names, sizes, left=left, color=colour, label=part, height=0.6)
            left = [a + b for a, b in zip(left, sizes, strict=True)]
    for name, total in zip(names, left, strict=True):
        axes.text(total, name, f" {total:.1f}", fontsize=9, va="center")
    axes.axvline(job.device.memory_gib, color="black", linestyle="--", linewidth=1.2)
    there = f"{job.device.name}: {job.device.memory_gib:.1f}"
    axes.text(job.device.memory_gib, len(names) - 0.45, there, fontsize=8, va="bottom", ha="center")
    axes.set_xlabel("GiB per worker")
    axes.set_xlim(0, 1.08 * max(job.device.memory_gib, *left))
    axes.set_title(
        f"{job.model.name}: {job.workers} x {job.device.name}, ZeRO {job.stage}", fontsize=10, loc="left", pad=14
    )
    figure.legend(fontsize=8, ncols=5, loc="outside lower center", frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path
