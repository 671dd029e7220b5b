"""Several qualities per answer -> one score: `data.objective`."""

from collections.abc import Mapping
from dataclasses import replace

from dpo.data.formats.judgement import Answer
from dpo.data.formats.values import RowProblem, Values, from_json, parse_score, type_name


def read_dimensions(row: Values) -> tuple[dict[str, float], dict[str, float]]:
    """(of the chosen answer, of the rejected one) from the column `dimensions`: {"helpfulness": {"chosen": 5,
    "rejected": 3}, ...}; a quality that lacks a side is left out. Raises RowProblem."""
    value = from_json(row.get("dimensions"), "dimensions")
    if value is None:
        return {}, {}
    if not isinstance(value, dict):
        raise RowProblem("wrong type", f"dimensions is {type_name(value)}, expected an object")
    found = {name: _sides(name, sides) for name, sides in value.items() if sides is not None}
    whole = {name: (c, r) for name, (c, r) in found.items() if c is not None and r is not None}
    return {name: c for name, (c, _) in whole.items()}, {name: r for name, (_, r) in whole.items()}


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
