"""An estimate in words and tables."""

from dpo.planner.choices import Found
from dpo.planner.estimate import Estimate
from dpo.planner.memory import GIB
from dpo.planner.scaling import Scaled
from dpo.planner.speed import EFFICIENCY
from dpo.planner.traffic import LINK

ASSUMED = (
    "No GPU has been measured by this project: times follow from data sheets and an assumed share of their throughput "
    "({efficiency:.0%} of matrix products{why}, {link:.0%} of links). Take them as 0.5 to 2 times what you will see; "
    "set plan.efficiency to what you measured."
)


def short(estimate: Estimate) -> str:
    """Two lines for the log of a run."""
    job, speed = estimate.job, estimate.speed
    time = "" if job.on_cpu else f"; about {_hours(speed.hours)} (assumed speed, see docs/PLANNING.md)"
    return f"plan: {verdict(estimate)}{time}"


def verdict(estimate: Estimate) -> str:
    job, held = estimate.job, estimate.memory
    of = f"{held.peak / GIB:.1f} of {job.device.memory_gib:.1f} GiB per {'worker' if job.on_cpu else job.device.name}"
    where = f"most in {held.phase.replace('_', ' ')}"
    if estimate.fits:
        return f"fits with {estimate.spare_gib:.1f} GiB to spare ({of}, {where})"
    if estimate.spare_gib < 0:
        return f"does not fit: {-estimate.spare_gib:.1f} GiB over ({of}, {where})"
    return (
        f"does not fit: the host of a node needs {-estimate.host_spare_gib:.0f} GiB more than {estimate.host_gib:.0f}"
    )


def full(estimate: Estimate, fits: list[Found]) -> str:
    """Everything, for `python -m dpo plan`; `fits`: changes that make it fit."""
    lines = [_job_line(estimate), "", verdict(estimate)]
    if fits:
        lines += ["the cheapest ways to fit, each checked:", *[f"  {_way(found)}" for found in fits]]
    elif not estimate.fits:
        lines.append("nothing that keeps the result fits: adapter=lora, or a GPU with more memory")
    lines += ["", "memory per GPU, GiB", *_table(estimate.memory.parts, estimate.memory.peak)]
    lines += [f"  other phases: {_other_phases(estimate)}"]
    if estimate.memory.host:
        lines += ["host memory per node, GiB", *_table(estimate.memory.host, sum(estimate.memory.host.values()))]
    return "\n".join([*lines, "", *_disk(estimate), "", *_time(estimate), "", _assumptions(estimate)]) + "\n"


def best(found: list[Found], goal: str) -> str:
    """A table of ways to run, best first."""
    if not found:
        return "nothing of what was tried fits\n"
    head = f"{'hours':>8}{'GPU-hours':>11}{'pairs/s':>9}{'spare GiB':>11}  overrides"
    rows = [
        f"{one.estimate.speed.hours:>8.2f}{one.estimate.gpu_hours:>11.1f}"
        f"{one.estimate.speed.pairs_per_second:>9.1f}{one.estimate.spare_gib:>11.1f}  "
        f"{' '.join(one.overrides) or '(as it is)'}"
        for one in found
    ]
    return "\n".join([f"the {goal} ways that fit:", head, *rows]) + "\n"


def scaled(rows: list[Scaled]) -> str:
    """How a run of one global batch scales, as it is and as it would best be set."""
    head = (
        f"{'GPUs':>6}{'pairs/s':>9}{'step s':>8}{'compute':>9}{'links':>8}{'GPU-hours':>11}{'fits':>6}"
        "  fastest that fits there: pairs/s, overrides"
    )
    lines = [head]
    for row in rows:
        own = row.own.speed
        best_of = "nothing" if row.best is None else f"{row.best.estimate.speed.pairs_per_second:.1f}  "
        change = "" if row.best is None else " ".join(t for t in row.best.overrides if not t.startswith("plan."))
        lines.append(
            f"{row.gpus:>6}{own.pairs_per_second:>9.1f}{own.step_seconds:>8.2f}"
            f"{own.compute_seconds / own.step_seconds:>9.0%}{own.exposed_seconds / own.step_seconds:>8.0%}"
            f"{row.own.gpu_hours:>11.1f}{'yes' if row.own.fits else 'no':>6}  {best_of}{change or '(as it is)'}"
        )
    return "\n".join([*lines, "", _assumptions(rows[0].own)]) + "\n"


def _job_line(estimate: Estimate) -> str:
    job, lengths = estimate.job, estimate.job.lengths
    return (
        f"{job.model.name}: {job.model.parameters / 1e9:.2f}B weights, {job.trained / 1e9:.3g}B of them trained, "
        f"{job.precision}; {job.workers} x {job.device.name} on {job.nodes} node{'s' if job.nodes > 1 else ''}; ZeRO "
        f"{job.stage}; reference {job.reference}\n"
        f"{lengths.pairs:,} pairs of {lengths.prompt:.0f} + 2 x {lengths.answer:.0f} tokens ({lengths.source}); "
        f"{job.global_batch} pairs a step in {job.micro_batches} micro-batch{'es' if job.micro_batches > 1 else ''} of "
        f"about {job.fullest_row:,.0f} tokens per worker, {job.steps:,} steps"
    )


def _way(found: Found) -> str:
    one = found.estimate
    return f"{' '.join(found.overrides)}   ({one.spare_gib:.1f} GiB to spare, {one.gpu_hours:.0f} GPU-hours)"


def _table(parts: dict[str, float], total: float) -> list[str]:
    rows = [f"  {name:<14}{size / GIB:>9.2f}" for name, size in parts.items()]
    return [*rows, f"  {'together':<14}{total / GIB:>9.2f}"]


def _other_phases(estimate: Estimate) -> str:
    held = estimate.memory
    sums = {name: sum(parts.values()) / GIB for name, parts in held.phases.items() if name != held.phase}
    return f"table is of {held.phase}; " + ", ".join(f"{name} {size:.1f}" for name, size in sums.items())


def _disk(estimate: Estimate) -> list[str]:
    held = estimate.memory
    total = f"disk for all that stay and the model: {held.disk / 1e9:.0f} GB"
    return [f"a checkpoint is {held.checkpoint / 1e9:.1f} GB; {total}"]


def _time(estimate: Estimate) -> list[str]:
    job, speed = estimate.job, estimate.speed
    flows = speed.traffic
    return [
        f"a step: {speed.step_flops / 1e12:,.0f} TFLOP over all GPUs (prompts once), {speed.step_seconds:.2f} s: "
        f"compute {speed.compute_seconds:.2f}, links not hidden {speed.exposed_seconds:.2f} of "
        f"{speed.communication_seconds:.2f}, optimizer {speed.optimizer_seconds:.2f}; {speed.bound} takes most",
        f"sent per GPU and step: {flows.node / 1e9:.1f} GB within the node, {flows.network / 1e9:.1f} GB between "
        f"nodes, {flows.host / 1e9:.1f} GB to the host and back",
        f"{speed.pairs_per_second:.1f} pairs/s; {_hours(speed.hours)}, {estimate.gpu_hours:.1f} GPU-hours: training "
        f"{_hours(speed.training_hours)}, reference pass {_hours(speed.reference_hours)}, held-out "
        f"{_hours(speed.evaluation_hours)} ({job.evaluations} times)",
    ]


def _assumptions(estimate: Estimate) -> str:
    chosen = estimate.job.efficiency
    why = "" if chosen else ", a usual figure"
    return ASSUMED.format(efficiency=chosen or EFFICIENCY, why=why, link=LINK)


def _hours(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.1f} min"
