"""How many pairs a run is planned for and how long they are: measured where they have been, else as plan.* states."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from dpo.config.derive import reports_dir
from dpo.config.identity import data_name
from dpo.config.schema import RunConfig
from dpo.data.groups import Groups
from dpo.losses.loss import Loss
from dpo.model.limits import LONGEST_DEFAULT
from dpo.planner.job import Lengths
from dpo.planner.report_lengths import read_lengths

SOME_PAIRS = 10_000  # where nobody says how many


def planned_lengths(config: RunConfig) -> Lengths:
    """Of the report on these data, where `python -m dpo report` has made one, else stated. plan.pairs is their number
    in any case, where it is set."""
    chosen_only = Loss(config.loss).answers == "chosen"
    report = Path(reports_dir(config)) / f"{data_name(config)}.json"
    found = read_lengths(report, chosen_only=chosen_only) or _stated(config, chosen_only)
    pairs = config.plan.pairs or found.pairs
    held_out = round(pairs * config.eval.fraction)
    return replace(found, pairs=pairs - held_out, held_out=held_out)


def _stated(config: RunConfig, chosen_only: bool) -> Lengths:
    """The longest pair is as long as data.max_length allows: among thousands one comes close."""
    plan, answers = config.plan, 1.0 if chosen_only else 2.0
    limit = config.data.max_length or LONGEST_DEFAULT
    number = "" if plan.pairs else f"plan.pairs is not set: {SOME_PAIRS:,} taken; "
    return Lengths(
        pairs=SOME_PAIRS,
        held_out=0,
        prompt=plan.prompt_tokens,
        answer=plan.answer_tokens,
        longest=plan.prompt_tokens + answers * max(plan.answer_tokens, limit - plan.prompt_tokens),
        source=f"{number}lengths are plan.*; `dpo report` measures them",
        answers=answers,
    )


def measured_lengths(groups: Groups, held_out: int) -> Lengths:
    """Tokens per pair: a prompt that several pairs share is shared out among them."""
    pairs, members = len(groups.members), groups.members
    sides = [groups.pairs.lengths("chosen_ids")[members]]
    if not groups.chosen_only:
        sides.append(groups.pairs.lengths("rejected_ids")[members])
    answers, tokens = sum(int(np.count_nonzero(side)) for side in sides), int(sum(side.sum() for side in sides))
    prompts = groups.pairs.lengths("prompt_ids")
    return Lengths(
        pairs=pairs,
        held_out=held_out,
        prompt=float(prompts[members[groups.begins[:-1]]].sum() / pairs),
        answer=tokens / max(1, answers),
        longest=float((prompts[members] + sum(sides)).max()),
        source="the data",
        answers=answers / pairs,
    )
