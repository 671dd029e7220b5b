"""An estimate in words and tables."""

from dpo.planner.choices import Found
from dpo.planner.estimate import Estimate
from dpo.planner.memory import GIB, PARTS
from dpo.planner.scaling import Scaled
from dpo.planner.speed import EFFICIENCY
from dpo.planner.traffic import LINK

ASSUMED = (
    "No GPU has been measured by this project. Times follow from data sheets and assumed shares of their rates\n"
    "({efficiency}, {link:.0%} of links): take them as 0.5 to 2 times what you\n"
    "will see, and set plan.efficiency to what you measured. docs/PLANNING.md says what is counted and how."
)


def short(estimate: Estimate) -> str:
    """One line for the log of a run."""
    job, speed = estimate.job, estimate.speed
    time = "" if job.on_cpu else f"; about {duration(speed.hours)} (assumed speed, see docs/PLANNING.md)"
    return f"plan: {verdict(estimate)}{time}"


def verdict(estimate: Estimate) -> str:
    job, held, spare = estimate.job, estimate.memory, estimate.spare_gib
    of = f"{held.peak / GIB:.1f} of {job.device.memory_gib:.1f} GiB per {'worker' if job.on_cpu else job.device.name}"
    where = f"most in {held.phase}"
    if spare < 0:
        return f"does not fit: {-spare:.1f} GiB over ({of}, {where})"
    if not estimate.fits:
        needed = -estimate.host_spare_gib
        return f"does not fit: the host of a node needs {needed:.0f} GiB more than {estimate.host_gib:.0f}"
    tight = "" if estimate.roomy else ", which is within the error of this prediction"
    return f"fits with {spare:.1f} GiB to spare{tight} ({of}, {where})"


def full(estimate: Estimate, fits: list[Found]) -> str:
    """Everything, for `python -m dpo plan`; `fits`: changes that make it fit."""
    blocks = [_job(estimate), _fit(estimate, fits), _device_memory(estimate), _host_and_disk(estimate)]
    return "\n\n".join([*blocks, _step(estimate), _whole_run(estimate), _assumptions(estimate)]) + "\n"


def best(found: list[Found], goal: str) -> str:
    """A table of ways to run, best first."""
    if not found:
        return "nothing of what was tried fits\n"
    head = f"{'time':>10}{'GPU-hours':>11}{'pairs/s':>9}{'spare GiB':>11}  overrides"
    rows = [
        f"{duration(one.estimate.speed.hours):>10}{one.estimate.gpu_hours:>11.2f}"
        f"{one.estimate.speed.pairs_per_second:>9.1f}{one.estimate.spare_gib:>11.1f}  "
        f"{' '.join(one.overrides) or '(as it is)'}"
        for one in found
    ]
    return "\n".join([f"the {goal} ways that fit:", head, *rows]) + "\n"


def scaled(rows: list[Scaled]) -> str:
    """How a run of one global batch scales, as it is and as it would best be set."""
    head = (
        f"{'':>6}  {'as it is':<47}fastest that fits there\n"
        f"{'GPUs':>6}{'pairs/s':>9}{'step s':>8}{'compute':>9}{'links':>8}{'GPU-hours':>11}{'fits':>6}"
        f"{'pairs/s':>9}{'links':>7}{'GPU-hours':>11}  overrides"
    )
    return "\n".join([_job(rows[0].own), "", head, *map(_scaled_row, rows), "", _assumptions(rows[0].own)]) + "\n"


def duration(hours: float) -> str:
    if hours >= 48:
        return f"{hours / 24:.1f} days"
    return f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.1f} min"


def _scaled_row(row: Scaled) -> str:
    own = row.own.speed
    text = (
        f"{row.gpus:>6}{own.pairs_per_second:>9.1f}{own.step_seconds:>8.2f}"
        f"{own.compute_seconds / own.step_seconds:>9.0%}{own.exposed_seconds / own.step_seconds:>8.0%}"
        f"{row.own.gpu_hours:>11.1f}{'yes' if row.own.fits else 'no':>6}"
    )
    if row.best is None:
        return f"{text}  nothing"
    fast = row.best.estimate.speed
    change = " ".join(text for text in row.best.overrides if not text.startswith("plan.")) or "(as it is)"
    share = fast.exposed_seconds / fast.step_seconds
    return f"{text}{fast.pairs_per_second:>9.1f}{share:>7.0%}{row.best.estimate.gpu_hours:>11.1f}  {change}"


def _job(estimate: Estimate) -> str:
    job, lengths = estimate.job, estimate.job.lengths
    learns = "all" if job.trained == job.model.parameters else f"{job.trained / 1e6:.1f}M"
    return (
        f"{job.model.name}: {job.model.parameters / 1e9:.2f}B weights, {learns} trained, {job.precision}, on "
        f"{job.workers} x {job.device.name} ({_counted(job.nodes, 'node')}), ZeRO {job.stage}, reference "
        f"{job.reference}\n"
        f"{lengths.pairs:,} pairs of {lengths.prompt:.0f} + {lengths.answers:g} x {lengths.answer:.0f} tokens, the "
        f"longest {lengths.longest:,.0f} ({lengths.source})\n"
        f"{_counted(job.steps, 'step')} of {job.global_batch} pairs, each in "
        f"{_counted(job.micro_batches, 'micro-batch', 'micro-batches')} of about {job.mean_row:,.0f} tokens per worker"
    )


def _fit(estimate: Estimate, fits: list[Found]) -> str:
    lines = [verdict(estimate)]
    if fits:
        lines += ["the cheapest ways to fit, each checked:", *[f"  {_way(found)}" for found in fits]]
    elif not estimate.fits:
        lines.append("nothing that keeps the result fits: adapter=lora, or a GPU with more memory")
    return "\n".join(lines)


def _way(found: Found) -> str:
    one = found.estimate
    return f"{' '.join(found.overrides)}   ({one.spare_gib:.1f} GiB to spare, {one.gpu_hours:.1f} GPU-hours)"


def _device_memory(estimate: Estimate) -> str:
    """The parts of every phase side by side; the phase that needs most first."""
    phases = dict(sorted(estimate.memory.phases.items(), key=lambda phase: -sum(phase[1].values())))
    columns = list(phases.values())
    parts = [part for part in PARTS if any(part in held for held in columns)]
    head = f"{'memory per GPU, GiB':<20}" + "".join(f"{name:>16}" for name in phases)
    lines = [f"  {part:<18}{_sizes([held.get(part, 0.0) for held in columns])}" for part in parts]
    return "\n".join([head, *lines, f"  {'together':<18}{_sizes([sum(held.values()) for held in columns])}"])


def _sizes(row: list[float]) -> str:
    return "".join(f"{size / GIB:>16.2f}" if size else f"{'-':>16}" for size in row)


def _host_and_disk(estimate: Estimate) -> str:
    held = estimate.memory
    lines = []
    if held.host:
        parts = ", ".join(f"{name} {size / GIB:.0f}" for name, size in held.host.items())
        lines.append(f"memory of each node's host: {sum(held.host.values()) / GIB:.0f} GiB ({parts})")
    lines.append(
        f"disk: a checkpoint is {held.checkpoint / 1e9:.1f} GB; {held.disk / 1e9:.0f} GB with all that stay and the "
        "trained model"
    )
    return "\n".join(lines)


def _step(estimate: Estimate) -> str:
    speed = estimate.speed
    flows = speed.traffic
    return (
        f"a step: {speed.step_seconds:.2f} s, of which {speed.compute_seconds:.2f} computing "
        f"({speed.step_flops / 1e12:,.0f} TFLOP over all GPUs, each prompt once), {speed.exposed_seconds:.2f} waiting\n"
        f"for links ({speed.communication_seconds:.2f} of traffic, the rest hidden behind computing), "
        f"{speed.optimizer_seconds:.2f} optimizer; limited by {speed.bound}\n"
        f"sent per GPU and step: {flows.node / 1e9:.1f} GB within the node, {flows.network / 1e9:.1f} GB between "
        f"nodes, {flows.host / 1e9:.1f} GB to the host and back"
    )


def _whole_run(estimate: Estimate) -> str:
    job, speed = estimate.job, estimate.speed
    parts = [f"training {duration(speed.training_hours)}"]
    if speed.reference_hours:
        parts.append(f"reference pass {duration(speed.reference_hours)}")
    if speed.evaluation_hours:
        parts.append(f"held-out pairs {job.evaluations} times {duration(speed.evaluation_hours)}")
    return (
        f"{speed.pairs_per_second:.1f} pairs/s, {duration(speed.hours)}, {estimate.gpu_hours:.1f} GPU-hours: "
        + ", ".join(parts)
    )


def _assumptions(estimate: Estimate) -> str:
    measured = estimate.job.efficiency
    efficiency = f"plan.efficiency={measured:g}" if measured else f"{EFFICIENCY:.0%} of matrix products"
    return ASSUMED.format(efficiency=efficiency, link=LINK)


def _counted(number: int, noun: str, nouns: str | None = None) -> str:
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"
