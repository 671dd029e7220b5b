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
            Answer(turns=chosen, score=_score(row, CHOSEN)),
            Answer(turns=rejected, score=_score(row, REJECTED)),
        ],
        tools=parse_tools(row.get("tools")),
    )
    add_dimensions(judgement, row)
    return judgement


def _score(row: Values, names: str) -> float | None:
    name, value = pick(row, names)
    return parse_score(value, name)
