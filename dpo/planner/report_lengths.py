"""Lengths from the JSON that `python -m dpo report` writes."""

import json
from pathlib import Path

from dpo.planner.job import Lengths


def read_lengths(report: Path, held_out: float) -> Lengths | None:
    """Mean lengths of the pairs, of which the share `held_out` is not trained on; None without such a report.

    An answer or a prompt that several pairs of one prompt share counts once, so their means shrink by that share.
    """
    if not report.is_file():
        return None
    measured = json.loads(report.read_text())["measured"]
    sides = measured["lengths"]
    if not {"prompt", "chosen", "rejected"} <= sides.keys():
        return None
    once = measured["computed"]["answer_once"] / measured["computed"]["prompt_once"]
    pairs = measured["pairs"]
    return Lengths(
        pairs=pairs - round(pairs * held_out),
        held_out=round(pairs * held_out),
        prompt=sides["prompt"]["mean"] * once,
        answer=(sides["chosen"]["mean"] + sides["rejected"]["mean"]) / 2 * once,
        source=f"measured: {report}",
    )
