"""Formats with two answers in no order, and a label that says which of them is better."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from dpo.data.formats.format import ANSWER, FLAG, NUMBER, TEXT, TURNS, Format
from dpo.data.formats.judgement import Answer, Judgement
from dpo.data.formats.messages import parse_answer
from dpo.data.formats.objective import add_dimensions
from dpo.data.formats.plain import any_prompt
from dpo.data.formats.prompts import split_answers, with_system
from dpo.data.formats.settings import FormatSettings
from dpo.data.formats.tools import parse_tools
from dpo.data.formats.values import LeftOut, RowProblem, Values, parse_flag, parse_score, pick, shorten

SIDE = re.compile(r"(?:.*[ _-])?([ab])", re.IGNORECASE)  # "A", "model_a", "response_b"
AB_ANSWERS = ("response", "answer", "output", "completion", "orig_response")
TIES = ("tie", "tie (bothbad)", "both", "bothbad", "same", "equal", "none", "neither")
AB_LABELS = "winner|preference|preferred|chosen|choice|better|verdict|label|orig_preference"
AB_PROMPTS = "prompt|question|instruction|orig_instruction"
AB_FIRST, AB_SECOND = ("|".join(f"{name}_{side}" for name in AB_ANSWERS for side in sides) for sides in ("aA", "bB"))


@dataclass(kw_only=True, slots=True)
class Verdict:
    """Which of two answers is better."""

    second: bool  # the second, not the first
    strength: float | None = None  # how much, in the data's own unit


@dataclass(kw_only=True, slots=True)
class TwoAnswers:
    """Where such a format keeps its parts: names of columns."""

    prompt: str
    first: str
    second: str
    label: dict[str, tuple[str, ...]]  # column -> kinds of its values
    verdict: Callable[[Values, FormatSettings], Verdict]  # raises LeftOut on a tie, RowProblem
    scores: tuple[str, str] | None = None  # a rating of each answer
    dimensions: Callable[[Values], tuple[dict[str, float], dict[str, float]]] | None = None  # of the first, the second


def _convert(parts: TwoAnswers, row: Values, settings: FormatSettings) -> Judgement:
    verdict = parts.verdict(row, settings)
    (first_name, first), (second_name, second) = pick(row, parts.first), pick(row, parts.second)
    answers = [Answer(turns=parse_answer(first, first_name)), Answer(turns=parse_answer(second, second_name))]
    if parts.scores:
        for answer, name in zip(answers, parts.scores, strict=True):
            answer.score = parse_score(row.get(name), name)
    if parts.dimensions:
        for answer, found in zip(answers, parts.dimensions(row), strict=True):
            answer.dimensions = found
    judgement = Judgement(
        prompt=any_prompt(parts.prompt, row, settings),
        answers=answers[::-1] if verdict.second else answers,
        margin=verdict.strength,
        tools=parse_tools(row.get("tools")),
    )
    add_dimensions(judgement, row)
    return judgement


def _index(name: str, row: Values) -> bool:
    """The column that holds 0 for the first answer and 1 for the second. Raises RowProblem."""
    flag = parse_flag(row.get(name))
    if flag is None:
        raise RowProblem("no label", f"{name} is {shorten(row.get(name))}, expected 0 or 1")
    return flag


def _saferlhf_verdict(row: Values, settings: FormatSettings) -> Verdict:
    return Verdict(second=_index(f"{settings.preference}_response_id", row))


def _saferlhf_dimensions(row: Values) -> tuple[dict[str, float], dict[str, float]]:
    known = [name for name in ("better", "safer") if row.get(f"{name}_response_id") is not None]
    second = {name: float(_index(f"{name}_response_id", row)) for name in known}
    return {name: 1 - value for name, value in second.items()}, second


def _shp_verdict(row: Values, settings: FormatSettings) -> Verdict:
    return Verdict(second=not _index("labels", row))  # 1: A is preferred to B


def _strength_verdict(name: str, row: Values, settings: FormatSettings) -> Verdict:
    """Below 0: the first answer is better by that much; above: the second. Raises LeftOut, RowProblem."""
    value = parse_score(row.get(name), name)
    if value is None:
        raise RowProblem("no label", f"{name} is absent or null")
    if value == 0:
        raise LeftOut("no preference", f"{name} is 0: both answers are about the same")
    return Verdict(second=value > 0, strength=abs(value))


def _judge_verdict(row: Values, settings: FormatSettings) -> Verdict:
    """1 to 2, from the first to the second; in the middle neither. Raises LeftOut, RowProblem."""
    value = parse_score(row.get("preference"), "preference")
    if value in (0, 1.5):  # how judges of AlpacaEval write a tie
        raise LeftOut("no preference", f"preference is {value:g}: a tie")
    if value is None or not 1 <= value <= 2:
        raise RowProblem("no label", f"preference is {shorten(row.get('preference'))}, expected 1 or 2")
    return Verdict(second=value > 1.5)


def _letter_verdict(names: str, row: Values, settings: FormatSettings) -> Verdict:
    """ "A", "model_b", "tie", ... Raises LeftOut, RowProblem."""
    name, value = pick(row, names)
    text = value.strip().lower() if isinstance(value, str) else ""
    if text in TIES:
        raise LeftOut("no preference", f"{name} is {shorten(value)}")
    side = SIDE.fullmatch(text)
    if side is None:
        raise RowProblem("no label", f"{name} is {shorten(value)}, expected a or b, as in model_a")
    return Verdict(second=side[1] == "b")


def _from_arena(row: Values, settings: FormatSettings) -> Judgement:
    verdict = _letter_verdict("winner", row, settings)
    sides = [parse_answer(row.get(name), name) for name in ("conversation_a", "conversation_b")]
    prompt, *answers = split_answers(None, *(reversed(sides) if verdict.second else sides))
    return Judgement(prompt=with_system(row, prompt), answers=[Answer(turns=turns) for turns in answers])


def _format(name: str, description: str, parts: TwoAnswers) -> Format:
    return Format(
        name=name,
        description=description,
        columns={parts.prompt: ANSWER, parts.first: ANSWER, parts.second: ANSWER, **parts.label},
        convert=partial(_convert, parts),
        prompt=parts.prompt,
        uses=("preference",) if name == "pku_saferlhf" else (),
    )


FORMATS = (
    _format(
        "pku_saferlhf",
        "prompt, response_0 and response_1 + better_response_id, safer_response_id",
        TwoAnswers(
            prompt="prompt",
            first="response_0",
            second="response_1",
            label={"better_response_id|safer_response_id": NUMBER},
            verdict=_saferlhf_verdict,
            dimensions=_saferlhf_dimensions,
        ),
    ),
    _format(
        "shp",
        "history, human_ref_A and human_ref_B + labels (1: A is better)",
        TwoAnswers(
            prompt="history",
            first="human_ref_A",
            second="human_ref_B",
            label={"labels": FLAG},
            verdict=_shp_verdict,
            scores=("score_A", "score_B"),
        ),
    ),
    _format(
        "helpsteer2_preference",
        "prompt, response_1 and response_2 + preference_strength (-3: the first is much better, 3: the second)",
        TwoAnswers(
            prompt="prompt",
            first="response_1",
            second="response_2",
            label={"preference_strength": NUMBER},
            verdict=partial(_strength_verdict, "preference_strength"),
        ),
    ),
    _format(
        "helpsteer3",
        "context, response1 and response2 + overall_preference (-3: the first is much better, 3: the second)",
        TwoAnswers(
            prompt="context",
            first="response1",
            second="response2",
            label={"overall_preference": NUMBER},
            verdict=partial(_strength_verdict, "overall_preference"),
        ),
    ),
    _format(
        "judge",
        "instruction and input, output_1 and output_2 + preference (1 or 2)",
        TwoAnswers(
            prompt="instruction",
            first="output_1",
            second="output_2",
            label={"preference": NUMBER},
            verdict=_judge_verdict,
        ),
    ),
    _format(
        "response_ab",
        "prompt, response_a and response_b + winner (a, b, model_a, tie, ...)",
        TwoAnswers(
            prompt=AB_PROMPTS,
            first=AB_FIRST,
            second=AB_SECOND,
            label={AB_LABELS: TEXT},
            verdict=partial(_letter_verdict, AB_LABELS),
        ),
    ),
    Format(
        name="arena",
        description="conversation_a and conversation_b + winner (model_a, model_b, tie)",
        columns={"conversation_a": TURNS, "conversation_b": TURNS, "winner": TEXT},
        convert=_from_arena,
    ),
)
