"""`python -m dpo prepare`: the pairs of a run read, checked, tokenized and kept. No weights are loaded."""

from pathlib import Path

from dpo.build_data import build_data
from dpo.columns import columns
from dpo.config.compose import Composed
from dpo.config.identity import run_name
from dpo.data.sets import DataSets
from dpo.preempt import Stopped, StopRequest
from dpo.records import RunFolder
from dpo.start import prepare


def run_prepare(composed: Composed, stop: StopRequest) -> str:
    """A table of what is there then; what was done when stopped on request: nothing is kept of half a source.

    Raises:
        UserError: anything the user can cure.
    """
    _, text = prepare(composed)
    config = composed.config
    folder = RunFolder(Path(config.output_dir) / run_name(config))
    try:
        return summary(build_data(config, text, folder, None, stop))
    except Stopped:
        return f"stopped: {stop.reason}; sources that were complete are kept\n"


def summary(sets: DataSets) -> str:
    """What the pairs come from, what became of the rows, and where it is kept."""
    head = ("source", "rows", "accepted", "rejected", "dropped", "pairs", "MB", "folder")
    rows: list[tuple[str, ...]] = [head]
    for source in sets.sources:
        tally, size = source.manifest.tally, sum(part.size for part in source.manifest.parts)
        counts = (tally.rows_read, tally.accepted, tally.rejected, tally.dropped, tally.pairs)
        rows.append((source.label, *(f"{count:,}" for count in counts), f"{size / 1e6:.1f}", str(source.folder)))
    sides = f"{len(sets.train):,} pairs to train on, {len(sets.held_out):,} held out"
    return "\n".join([*columns(rows), sides]) + "\n"
