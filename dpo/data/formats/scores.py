"""Ratings that stand beside a chosen and a rejected answer, and the judgement that they belong to."""

from dpo.data.formats.judgement import Answer, Judgement
from dpo.data.formats.objective import add_dimensions
from dpo.data.formats.tools import parse_tools
from dpo.data.formats.values import Values, parse_score, pick
from dpo.data.pair import Message

WORDS = ("score", "rating", "reward", "avg_rating")
CHOSEN = "|".join(name for w in WORDS for name in (f"{w}_chosen", f"chosen_{w}", f"chosen-{w}"))
REJECTED = CHOSEN.replace("chosen", "rejected")


def judged_pair(row: Values, prompt: list[Message], chosen: list[Message], rejected: list[Message]) -> Judgement:
    """A labelled pair with what else the row says: ratings (`score_chosen`, `chosen-rating`, ...), dimensions, tools.
    Raises RowProblem."""
    judgement = Judgement(
        prompt=prompt,
        answers=[
            Answer(turns=chosen, score=_score(row, "chosen", CHOSEN)),
            Answer(turns=rejected, score=_score(row, "rejected", REJECTED)),
        ],
        tools=parse_tools(row.get("tools")),
    )
    add_dimensions(judgement, row)
    return judgement


def _score(row: Values, side: str, names: str) -> float | None:
    """From a column of its own, or from the list `rating` in the `order` that distilabel's judges saw the sides in."""
    name, value = pick(row, names)
    order, ratings = row.get("order"), row.get("rating")
    if value is None and isinstance(order, list) and isinstance(ratings, list) and len(order) == len(ratings):
        name, value = "rating", dict(zip(map(str, order), ratings, strict=True)).get(side)
    return parse_score(value, name)
