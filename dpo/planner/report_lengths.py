"""Lengths from the JSON that `python -m dpo report` writes."""

import json
from pathlib import Path

from dpo.planner.job import Lengths


def read_lengths(report: Path, *, chosen_only: bool) -> Lengths | None:
    """Numbers and lengths of the pairs, none of them held out; None without such a report.

    A prompt or an answer that several pairs share is computed once, so the means shrink by that share. The longest pair
    is bounded by the longest of its parts and by data.max_length.
    """
    if not report.is_file():
        return None
    measured = json.loads(report.read_text())["measured"]
    sides = measured["lengths"]
    answers = [sides[side] for side in (("chosen",) if chosen_only else ("chosen", "rejected")) if side in sides]
    if "prompt" not in sides or not answers:
        return None
    once = measured["computed"]["answer_once"] / measured["computed"]["prompt_once"]
    prompt, limit = sides["prompt"]["mean"], measured["limits"]["max_length"]
    count = sum(side["total"] / side["mean"] for side in answers)
    return Lengths(
        pairs=measured["pairs"],
        held_out=0,
        prompt=prompt * once,
        answer=sum(side["total"] for side in answers) / count * once,
        longest=prompt + sum(min(side["max"], limit - prompt) for side in answers),
        source=f"measured: {report}",
        answers=count / measured["pairs"],
    )
