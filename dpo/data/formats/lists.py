"""Formats with any number of answers to one prompt, ordered by ranks or scores."""

from typing import Any

from dpo.data.formats.format import ANSWER, NUMBER, TEXT, Format
from dpo.data.formats.judgement import LIST, PAIR, Answer, Judgement
from dpo.data.formats.messages import parse_answer, parse_turns
from dpo.data.formats.prompts import parse_prompt, with_system
from dpo.data.formats.settings import FormatSettings
from dpo.data.formats.tools import parse_tools
from dpo.data.formats.values import WRONG_TYPE, RowProblem, Values, parse_score, pick, shorten, type_name

PROMPTS = "prompt|instruction|question|query|input"
LISTS = "responses|answers|candidates|completions|generations|outputs|candidates_completions"
RANKS, SCORES = "ranks|rankings|ranking", "scores|ratings|rewards"
RANK, SCORE = "rank", "score|overall_score|rating|reward|pm_score"
TEXTS = "response|answer|completion|text|output|content|messages"
HELPSTEER = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")


def _list(row: Values, answers: list[Answer], settings: FormatSettings) -> Judgement:
    prompt = parse_prompt(row, PROMPTS, settings.plain_text)
    return Judgement(prompt=prompt, answers=answers, kind=LIST, tools=parse_tools(row.get("tools")))


def _items(row: Values, names: str) -> list[Any]:
    name, value = pick(row, names)
    if not isinstance(value, list):
        raise RowProblem(WRONG_TYPE, f"{name} is {type_name(value)}, expected a list of answers")
    return value


def _objects(row: Values, name: str) -> list[Values]:
    """The answers in a column that holds objects alone. Raises RowProblem."""
    items = _items(row, name)
    wrong = next((item for item in items if not isinstance(item, dict)), None)
    if wrong is not None or None in items:
        raise RowProblem(WRONG_TYPE, f"{name} holds {type_name(wrong)}, expected objects")
    return items


def _from_ranked(row: Values, settings: FormatSettings) -> Judgement:
    """Answers that carry their own rank or score, or stand beside a list of them. A rank of 1 is the best."""
    items = _items(row, LISTS)
    names = [f"answer {i}" for i in range(1, len(items) + 1)]
    if all(isinstance(item, dict) and _order(item, RANK, SCORE) for item in items):
        scores = [_own(item, name) for item, name in zip(items, names, strict=True)]
    else:
        scores = _beside(row, len(items))
    return _list(row, [_scored(*parts) for parts in zip(items, scores, names, strict=True)], settings)


def _order(values: Values, ranks: str, scores: str) -> tuple[str, Any, int] | None:
    """(column, value, sign that makes higher better) of a rank or a score."""
    for names, sign in ((ranks, -1), (scores, 1)):
        name, value = pick(values, names)
        if value is not None:
            return name, value, sign
    return None


def _beside(row: Values, count: int) -> list[float | None]:
    found = _order(row, RANKS, SCORES)
    if found is None:
        raise RowProblem("no label", f"the list of answers has neither {RANKS} nor {SCORES}".replace("|", ", "))
    name, values, sign = found
    if not isinstance(values, list) or len(values) != count:
        raise RowProblem("scores do not match the answers", f"{name} is {shorten(values)}, expected {count} numbers")
    return [_signed(value, name, sign) for value in values]


def _own(item: Values, name: str) -> float | None:
    found = _order(item, RANK, SCORE)
    return None if found is None else _signed(found[1], f"{found[0]} of {name}", found[2])


def _signed(value: object, name: str, sign: int) -> float | None:
    score = parse_score(value, name)
    return None if score is None else sign * score


def _scored(item: object, score: float | None, name: str) -> Answer:
    """An answer as text, as turns, or as an object that holds either. A blank one stays, to be left out later."""
    if isinstance(item, dict) and not {"role", "from"} & item.keys():
        item = pick(item, TEXTS)[1]
    if item is None or item == []:
        return Answer(turns=[], score=score)
    return Answer(turns=parse_answer(item, name), score=score)


def _from_ultrafeedback(row: Values, settings: FormatSettings) -> Judgement:
    """`overall_score` orders the completions (where it is absent, the mean of the ratings); the annotations are their
    dimensions. Each completion's own system prompt is left out, as in the sets that were made of this one."""
    answers = []
    for i, item in enumerate(_objects(row, "completions"), 1):
        ratings = _annotations(item.get("annotations"), f"completion {i}")
        score = parse_score(item.get("overall_score"), "overall_score")
        if score is None and ratings:
            score = sum(ratings.values()) / len(ratings)
        answer = _scored(item, score, f"completion {i}")
        answer.dimensions = ratings
        answers.append(answer)
    return _list(row, answers, settings)


def _annotations(value: object, name: str) -> dict[str, float]:
    """{"helpfulness": {"Rating": "4", ...}, ...}: as text, and "N/A" where there is none."""
    if not isinstance(value, dict):
        return {}
    rated = {
        key: parse_score(pick(found, "Rating|rating")[1], f"{name}: {key}")
        for key, found in value.items()
        if isinstance(found, dict)
    }
    return {key: rating for key, rating in rated.items() if rating is not None}


def _from_helpsteer(row: Values, settings: FormatSettings) -> Judgement:
    """The joined rows of one prompt (dpo/data/formats/adjacent.py), ordered by helpfulness."""
    answers = []
    for item in _objects(row, "responses"):
        known = {name: parse_score(item.get(name), name) for name in HELPSTEER}
        dimensions = {name: value for name, value in known.items() if value is not None}
        answer = _scored(item.get("response"), dimensions.get("helpfulness"), "response")
        answer.dimensions = dimensions
        answers.append(answer)
    return _list(row, answers, settings)


def _from_rm_gallery(row: Values, settings: FormatSettings) -> Judgement:
    sample = row.get("evaluation_sample")
    if not isinstance(sample, dict):
        raise RowProblem(WRONG_TYPE, f"evaluation_sample is {type_name(sample)}, expected an object")
    outputs = _items(sample, "outputs")
    labels = [_label(output) for output in outputs]
    answers = [_rewarded(output, f"output {i}") for i, output in enumerate(outputs, 1)]
    prompt = with_system(row, parse_turns(sample.get("input"), "evaluation_sample.input"))
    if sorted(map(str, labels)) == ["chosen", "rejected"]:
        sides = answers if labels[0] == "chosen" else answers[::-1]
        return Judgement(prompt=prompt, answers=sides, kind=PAIR)
    return Judgement(prompt=prompt, answers=answers, kind=LIST)


def _inner(output: object) -> Values:
    """An output, which may lie in an object of its own under "answer"."""
    value = output.get("answer", output) if isinstance(output, dict) else output
    if not isinstance(value, dict):
        raise RowProblem(WRONG_TYPE, f"an output is {type_name(value)}, expected an object")
    return value


def _label(output: object) -> object:
    return pick(_inner(output), "content_label|label")[1]


def _rewarded(output: object, name: str) -> Answer:
    inner = _inner(output)
    rewards = pick(inner, "rewards|reward")[1]
    rewards = rewards if isinstance(rewards, dict) else {}
    details = rewards.get("rewards_detail")
    found = {
        str(detail.get("dimension")): parse_score(detail.get("value"), f"{name}: reward")
        for detail in (details if isinstance(details, list) else [])
        if isinstance(detail, dict)
    }
    return Answer(
        turns=[] if inner.get("content") is None else parse_answer(inner, name),
        score=parse_score(rewards.get("total_score"), f"{name}: total_score"),
        dimensions={key: value for key, value in found.items() if value is not None},
    )


def _holds_order(row: Values) -> bool:
    """Whether there are ranks or scores, beside the answers or in them."""
    items = pick(row, LISTS)[1]
    inside = bool(items) and all(isinstance(item, dict) and _order(item, RANK, SCORE) for item in items)
    return (inside or _order(row, RANKS, SCORES) is not None) and not _is_ultrafeedback(row)


def _is_ultrafeedback(row: Values) -> bool:
    items = row.get("completions")
    return isinstance(items, list) and all(isinstance(item, dict) and "annotations" in item for item in items)


FORMATS = (
    Format(
        name="ultrafeedback",
        description="instruction + completions with response, overall_score and annotations",
        columns={"instruction": TEXT, "completions": ("list",)},
        convert=_from_ultrafeedback,
        absent=("chosen", "rejected"),
        shape=_is_ultrafeedback,
        uses=("plain_text", "ranked_pairs"),
    ),
    Format(
        name="ranked",
        description="prompt + responses with ranks or scores, beside them or in them",
        columns={PROMPTS: ANSWER, LISTS: ("list",)},
        convert=_from_ranked,
        absent=("chosen", "rejected"),
        shape=_holds_order,
        uses=("plain_text", "ranked_pairs"),
    ),
    Format(
        name="rm_gallery",
        description="evaluation_sample.input and .outputs with content_label or rewards",
        columns={"evaluation_sample": ("object",)},
        convert=_from_rm_gallery,
        uses=("ranked_pairs",),
    ),
    Format(
        name="helpsteer",
        description="one response with helpfulness, correctness, ... per row, the rows of a prompt adjacent: joined",
        columns={"prompt": ANSWER, "response": ANSWER, "helpfulness": NUMBER},
        convert=_from_helpsteer,
        absent=("chosen", "rejected"),
        uses=("plain_text", "ranked_pairs"),
        joined=True,
    ),
)
