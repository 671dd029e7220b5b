"""Lists of answers with ranks or scores, beside them or in them."""

from typing import Any

from dpo.data.formats.candidates import PROMPTS, SOME, answer_items, candidate, judged_list
from dpo.data.formats.format import ANSWER, Format
from dpo.data.formats.judgement import Judgement
from dpo.data.formats.settings import FormatSettings
from dpo.data.formats.values import (
    WRONG_TYPE,
    RowProblem,
    Values,
    from_json,
    parse_score,
    pick,
    rows_of,
    shorten,
    type_name,
)

LISTS = "responses|answers|candidates|completions|generations|outputs|candidates_completions"
RANKS, SCORES = "ranks|rankings|ranking", "scores|ratings|rewards"
RANK, SCORE = "rank", "score|overall_score|rating|reward|pm_score"


def _from_ranked(row: Values, settings: FormatSettings) -> Judgement:
    """A rank of 1 is the best, a score the better the higher."""
    items = answer_items(row, LISTS)
    names = [f"answer {i}" for i in range(1, len(items) + 1)]
    dimensions = _dimensions(row, items)
    if all(isinstance(item, dict) and _order(item, RANK, SCORE) for item in items):
        scores = [_own(item, name) for item, name in zip(items, names, strict=True)]
    else:
        scores = _beside(row, len(items), needed=not any(dimensions))
    answers = [candidate(*parts) for parts in zip(items, scores, names, strict=True)]
    for answer, found in zip(answers, dimensions, strict=True):
        answer.dimensions = found
    return judged_list(row, answers, settings)


def _from_good_and_bad(row: Values, settings: FormatSettings) -> Judgement:
    """Every chosen answer is better than every rejected one, and nothing is said within either list."""
    sides = (("chosen", 1.0), ("rejected", 0.0))
    answers = [candidate(item, score, name) for name, score in sides for item in _several(row, name)]
    return judged_list(row, answers, settings)


def _several(row: Values, name: str) -> list[Any]:
    return [row[name]] if isinstance(row.get(name), str) else answer_items(row, name)


def _are_texts(row: Values) -> bool:
    """Whether a list holds answers, not the turns of one."""
    lists = [items for items in (row["chosen"], row["rejected"]) if isinstance(items, list)]
    return bool(lists) and all(isinstance(item, (str, list)) for items in lists for item in items)


def _order(values: Values, ranks: str, scores: str) -> tuple[str, Any, int] | None:
    """(column, value, sign that makes higher better) of a rank or a score."""
    for names, sign in ((ranks, -1), (scores, 1)):
        name, value = pick(values, names)
        if value is not None:
            return name, value, sign
    return None


def _beside(row: Values, count: int, *, needed: bool) -> list[float | None]:
    found = _order(row, RANKS, SCORES)
    if found is None:
        if needed:
            raise RowProblem("no label", f"neither {RANKS} nor {SCORES} order the answers".replace("|", ", "))
        return [None] * count
    name, values, sign = found
    return [_signed(value, name, sign) for value in _numbers(values, name, count)]


def _own(item: Values, name: str) -> float | None:
    found = _order(item, RANK, SCORE)
    return None if found is None else _signed(found[1], f"{found[0]} of {name}", found[2])


def _signed(value: object, name: str, sign: int) -> float | None:
    score = parse_score(value, name)
    return None if score is None else sign * score


def _numbers(values: object, name: str, count: int) -> list[Any]:
    if not isinstance(values, list) or len(values) != count:
        raise RowProblem("scores do not match the answers", f"{name} is {shorten(values)}, expected {count} numbers")
    return values


def _dimensions(row: Values, items: list[Any]) -> list[dict[str, float]]:
    """Of every answer: from the column `dimensions`, {"helpfulness": [5, 3, 4], ...}, or from the answers' own,
    {"helpfulness": 5, ...}. Raises RowProblem."""
    value = from_json(row.get("dimensions"), "dimensions")
    if value is None:
        return [_named(item.get("dimensions") if isinstance(item, dict) else None) for item in items]
    if not isinstance(value, dict):
        raise RowProblem(WRONG_TYPE, f"dimensions is {type_name(value)}, expected an object of lists")
    lists = {name: _numbers(values, f"dimensions.{name}", len(items)) for name, values in value.items()}
    return [_named({name: values[i] for name, values in lists.items()}) for i in range(len(items))]


def _named(value: object) -> dict[str, float]:
    if not isinstance(value, dict):
        return {}
    scores = {name: parse_score(number, f"dimensions.{name}") for name, number in value.items()}
    return {name: score for name, score in scores.items() if score is not None}


def _holds_order(row: Values) -> bool:
    """Whether ranks, scores or dimensions stand beside the answers or in them; UltraFeedback's have annotations."""
    items = rows_of(pick(row, LISTS)[1])
    if not isinstance(items, list) or any(isinstance(item, dict) and "annotations" in item for item in items):
        return False
    inside = all(isinstance(item, dict) and (_order(item, RANK, SCORE) or item.get("dimensions")) for item in items)
    return inside or _order(row, RANKS, SCORES) is not None or row.get("dimensions") is not None


FORMATS = (
    Format(
        name="ranked",
        description="prompt + responses with ranks or scores, beside them or in them",
        columns={PROMPTS: ANSWER, LISTS: SOME},
        convert=_from_ranked,
        absent=("chosen", "rejected"),
        shape=_holds_order,
        shape_says="ranks, scores or dimensions that order the answers",
        prompt=PROMPTS,
        uses=("ranked_pairs",),
    ),
    Format(
        name="good_and_bad",
        description="prompt + chosen and rejected, of which either is a list of several answers: scored 1 and 0",
        columns={PROMPTS: ANSWER, "chosen": ("list", "text"), "rejected": ("list", "text")},
        convert=_from_good_and_bad,
        shape=_are_texts,
        shape_says="several answers in chosen or in rejected",
        prompt=PROMPTS,
        uses=("ranked_pairs",),
    ),
)
