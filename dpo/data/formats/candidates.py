"""Parts that formats with a list of answers share."""

from typing import Any

from dpo.data.formats.judgement import LIST, Answer, Judgement
from dpo.data.formats.messages import parse_answer, without_role
from dpo.data.formats.plain import any_prompt
from dpo.data.formats.settings import FormatSettings
from dpo.data.formats.tools import parse_tools
from dpo.data.formats.values import WRONG_TYPE, RowProblem, Values, pick, rows_of, type_name

PROMPTS = "prompt|instruction|question|query|input|context|contents"
SOME = ("list", "object")  # kinds of a column with several answers: Arrow tables make an object of lists of it


def judged_list(row: Values, answers: list[Answer], settings: FormatSettings) -> Judgement:
    """Answers to the row's prompt, ordered by their scores. Raises RowProblem."""
    prompt = any_prompt(PROMPTS, row, settings)
    return Judgement(prompt=prompt, answers=answers, kind=LIST, tools=parse_tools(row.get("tools")))


def answer_items(row: Values, names: str) -> list[Any]:
    """What the first of the columns `names` with a value lists. Raises RowProblem."""
    name, value = pick(row, names)
    items = rows_of(value)
    if not isinstance(items, list):
        raise RowProblem(WRONG_TYPE, f"{name} is {type_name(items)}, expected a list of answers")
    return items


def answer_objects(row: Values, name: str) -> list[Values]:
    """The same where every entry must be an object. Raises RowProblem."""
    items = answer_items(row, name)
    wrong = [item for item in items if not isinstance(item, dict)]
    if wrong:
        raise RowProblem(WRONG_TYPE, f"{name} holds {type_name(wrong[0])}, expected objects")
    return items


def candidate(item: object, score: float | None, name: str) -> Answer:
    """An answer of a list with its score. A blank one stays, to be left out later. Raises RowProblem."""
    said = without_role(item)
    return Answer(turns=[] if said is None or said == [] else parse_answer(said, name), score=score)
