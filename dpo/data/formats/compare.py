"""A judgement -> the pairs to train on: sides by label or by score, margins, and remarks that are counted."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations

from dpo.config.schema import ObjectiveConfig
from dpo.data.formats.judgement import PAIR, SINGLE, Answer, Judgement, check_answer, check_difference
from dpo.data.formats.objective import weighted
from dpo.data.formats.settings import FormatSettings
from dpo.data.formats.values import LeftOut, RowProblem

# Remarks: what is worth counting about pairs that are used.
CONTRADICTS, TIE = "scores contradict the label", "scores tie"
OBJECTIVE_KEPT, OBJECTIVE_SWAPPED = "objective contradicts the label: kept", "objective contradicts the label: swapped"
NO_DIMENSIONS = "a weighted dimension is missing"
BLANK, EQUAL, UNSCORED = "blank answers of a list left out", "equal answers of a list", "unscored answers left out"
# Reasons for sound rows without a pair.
NO_PREFERENCE, OBJECTIVE_DROPPED = "no preference", "objective contradicts the label"


@dataclass(kw_only=True, slots=True)
class Comparison:
    """One answer preferred to another. An unpaired answer stands alone in its place."""

    chosen: Answer
    rejected: Answer
    margin: float | None = None
    swapped: bool = False  # against the row's label
    remarks: tuple[str, ...] = ()


def compare(judgement: Judgement, settings: FormatSettings) -> list[Comparison]:
    """At least one comparison. Raises RowProblem: a bad answer; LeftOut: the row prefers nothing."""
    if judgement.kind == SINGLE:
        return [_alone(judgement)]
    if judgement.kind == PAIR:
        return [_labelled(judgement, settings.objective)]
    return _ranked(judgement, settings)


def _alone(judgement: Judgement) -> Comparison:
    chosen, rejected = judgement.answers
    check_answer(chosen if chosen.turns else rejected, "the answer")
    return Comparison(chosen=chosen, rejected=rejected)


def _labelled(judgement: Judgement, objective: ObjectiveConfig) -> Comparison:
    chosen, rejected = judgement.answers
    check_answer(chosen, "chosen")
    check_answer(rejected, "rejected")
    check_difference(chosen, rejected)
    own = judgement.margin if judgement.margin is not None else _difference(chosen, rejected)
    found = Comparison(chosen=chosen, rejected=rejected, margin=own)
    if objective.weights:
        return _by_objective(found, objective)
    if (difference := _difference(chosen, rejected)) is not None and difference <= 0:
        found.remarks = (TIE if difference == 0 else CONTRADICTS,)
    return found


def _by_objective(found: Comparison, objective: ObjectiveConfig) -> Comparison:
    """The weighted score against the label. Raises LeftOut."""
    sides = (weighted(found.chosen, objective.weights), weighted(found.rejected, objective.weights))
    difference = _difference(*sides)
    if difference is None:
        return replace(found, remarks=(NO_DIMENSIONS,))
    if objective.margin:
        found.margin = difference
    if difference >= 0:
        return replace(found, remarks=(TIE,)) if difference == 0 else found
    if objective.contradicts == "drop":
        raise LeftOut(OBJECTIVE_DROPPED, f"by data.objective.weights the rejected answer is better by {-difference:g}")
    if objective.contradicts == "keep":
        return replace(found, remarks=(OBJECTIVE_KEPT,))
    return Comparison(
        chosen=found.rejected,
        rejected=found.chosen,
        margin=None if found.margin is None else -found.margin,
        swapped=True,
        remarks=(OBJECTIVE_SWAPPED,),
    )


def _ranked(judgement: Judgement, settings: FormatSettings) -> list[Comparison]:
    """The pairs of a list of scored answers; equal scores make none. Raises RowProblem, LeftOut."""
    answers, remarks = _usable(judgement, settings)
    answers.sort(key=lambda answer: -(answer.score or 0.0))  # stable: the data's order among equals
    ordered = [pair for pair in _choose(answers, settings.ranked_pairs) if _difference(*pair)]
    if not ordered:
        raise LeftOut(NO_PREFERENCE, f"{len(answers)} answers with a score, none better than another")
    different = [(better, worse) for better, worse in ordered if better.turns != worse.turns]
    if not different:
        check_difference(*ordered[0])
    if len(different) < len(ordered):
        remarks += (EQUAL,)
    with_margin = bool(settings.objective.margin or not settings.objective.weights)
    return [
        Comparison(
            chosen=better, rejected=worse, margin=_difference(better, worse) if with_margin else None, remarks=remarks
        )
        for better, worse in different
    ]


def _usable(judgement: Judgement, settings: FormatSettings) -> tuple[list[Answer], tuple[str, ...]]:
    """(the answers of a list that have a text and a score, remarks on the others). Raises RowProblem, LeftOut."""
    whole = [answer for answer in judgement.answers if not answer.is_blank]
    if len(whole) < 2:
        if len(judgement.answers) < 2:
            raise LeftOut("a single answer", "the list holds fewer than two answers to the prompt")
        raise RowProblem("empty answer", f"{len(whole)} of {len(judgement.answers)} answers are not blank")
    for answer in whole:
        check_answer(answer, "an answer of the list")
    if settings.objective.weights:
        whole = [weighted(answer, settings.objective.weights) for answer in whole]
    scored = [answer for answer in whole if answer.score is not None]
    blank = (BLANK,) if len(whole) < len(judgement.answers) else ()
    missing = NO_DIMENSIONS if settings.objective.weights else UNSCORED
    return scored, blank + ((missing,) if len(scored) < len(whole) else ())


def _choose(answers: list[Answer], kind: str) -> Iterator[tuple[Answer, Answer]]:
    """(better, worse) from answers that are sorted from the best to the worst: data.ranked_pairs."""
    if kind == "best_worst":
        return iter([(answers[0], answers[-1])] if len(answers) > 1 else [])
    if kind == "best_rest":
        return ((answers[0], worse) for worse in answers[1:])
    return combinations(answers, 2)


def _difference(better: Answer, worse: Answer) -> float | None:
    return None if better.score is None or worse.score is None else better.score - worse.score
