"""Several qualities per answer -> one score: `data.objective`."""

from collections.abc import Mapping
from dataclasses import replace

from dpo.data.formats.judgement import Answer, Judgement
from dpo.data.formats.values import RowProblem, Values, from_json, parse_score, type_name


def add_dimensions(judgement: Judgement, row: Values) -> None:
    """Put what the column `dimensions` says, {"helpfulness": {"chosen": 5, "rejected": 3}, ...}, on both answers of a
    labelled pair; a quality that lacks a side is left out. Raises RowProblem."""
    value = from_json(row.get("dimensions"), "dimensions")
    if value is None:
        return
    if not isinstance(value, dict):
        raise RowProblem("wrong type", f"dimensions is {type_name(value)}, expected an object")
    chosen, rejected = judgement.answers
    for name, sides in value.items():
        mine, other = (None, None) if sides is None else _sides(name, sides)
        if mine is not None and other is not None:
            chosen.dimensions[name], rejected.dimensions[name] = mine, other


def _sides(name: str, value: object) -> tuple[float | None, float | None]:
    if not isinstance(value, dict):
        raise RowProblem(
            "wrong type", f"dimensions.{name} is {type_name(value)}, expected {{chosen: number, rejected: number}}"
        )
    chosen, rejected = (parse_score(value.get(side), f"dimensions.{name}.{side}") for side in ("chosen", "rejected"))
    return chosen, rejected


def weighted(answer: Answer, weights: Mapping[str, float]) -> Answer:
    """`answer` with the weighted sum of its dimensions as its score; None where it lacks one of them."""
    if any(name not in answer.dimensions for name in weights):
        return replace(answer, score=None)
    return replace(answer, score=sum(weight * answer.dimensions[name] for name, weight in weights.items()))
