"""Formats with two answers in no order, and a label that says which of them is better."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from dpo.data.formats.format import ANSWER, FLAG, NUMBER, TEXT, TURNS, Format
from dpo.data.formats.judgement import Answer, Judgement
from dpo.data.formats.messages import parse_answer
from dpo.data.formats.objective import add_dimensions
from dpo.data.formats.plain import any_prompt
from dpo.data.formats.prompts import text_prompt
from dpo.data.formats.settings import FormatSettings
from dpo.data.formats.tools import parse_tools
from dpo.data.formats.values import (
    WRONG_TYPE,
    RowProblem,
    Values,
    parse_score,
    parse_text,
    pick,
    rows_of,
    shorten,
)
from dpo.data.formats.verdicts import (
    Verdict,
    by_flag,
    by_index,
    by_letter,
    by_number,
    by_scores,
    by_strength,
    index,
)

AB_ANSWERS = ("response", "answer", "output", "completion", "orig_response")
TIES = ("tie", "tie (bothbad)", "both", "bothbad", "same", "equal", "none", "neither")
AB_LABELS = "winner|preference|preferred|chosen|choice|better|verdict|label|orig_preference"
AB_PROMPTS = "orig_instruction|prompt|question|instruction"  # beside the first, "instruction" is a judge's own prompt


def _names(*endings: str, words: tuple[str, ...] = AB_ANSWERS) -> str:
    """ "response_a|response_A|answer_a|..." for the endings "_a" and "_A"."""
    return "|".join(word + ending for word in words for ending in endings)


AB_FIRST, AB_SECOND = _names("_a", "_A"), _names("_b", "_B")
RATINGS = ("score", "rating", "reward", "orig_score")
SCORES = (_names("_0", "_a", "_A", words=RATINGS), _names("_1", "_b", "_B", words=RATINGS))
JUDGED = "preference|label"


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
            answer.score = parse_score(pick(row, name)[1], name)
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


def _saferlhf_verdict(row: Values, settings: FormatSettings) -> Verdict:
    return by_index(f"{settings.preference}_response_id", row, settings)


def _saferlhf_dimensions(row: Values) -> tuple[dict[str, float], dict[str, float]]:
    known = [name for name in ("better", "safer") if row.get(f"{name}_response_id") is not None]
    second = {name: float(index(f"{name}_response_id", row)) for name in known}
    return {name: 1 - value for name, value in second.items()}, second


def _from_summaries(row: Values, settings: FormatSettings) -> Judgement:
    """The prompt as the authors write it (Stiennon et al. 2020, arXiv:2009.01325): a post, or a news article."""
    info, summaries = row.get("info"), rows_of(row.get("summaries"))
    if not isinstance(info, dict) or not isinstance(summaries, list) or len(summaries) != 2:
        raise RowProblem(WRONG_TYPE, f"summaries is {shorten(summaries)}, expected two, and info an object")
    verdict = by_index("choice", row, settings)
    if info.get("article"):
        text = f"Article:\n\n{parse_text(info['article'], 'info.article')}\n\nTL;DR:"
    else:
        subreddit, title, post = (parse_text(info.get(key), f"info.{key}") for key in ("subreddit", "title", "post"))
        text = f"SUBREDDIT: r/{subreddit}\n\nTITLE: {title}\n\nPOST: {post}\n\nTL;DR:"
    first, second = (Answer(turns=parse_answer(summary, "summaries")) for summary in summaries)
    prompt = text_prompt(row, text, settings.plain_text, "info")
    return Judgement(prompt=prompt, answers=[second, first] if verdict.second else [first, second])


def _format(name: str, description: str, parts: TwoAnswers, absent: str = "") -> Format:
    return Format(
        name=name,
        description=description,
        columns={parts.prompt: ANSWER, parts.first: ANSWER, parts.second: ANSWER, **parts.label},
        convert=partial(_convert, parts),
        absent=tuple(absent.split("|")) if absent else (),
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
            verdict=partial(by_flag, "labels"),
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
            verdict=partial(by_strength, "preference_strength"),
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
            verdict=partial(by_strength, "overall_preference"),
        ),
    ),
    _format(
        "judge",
        "instruction and input, output_1 and output_2 + preference (or label): 1 or 2",
        TwoAnswers(
            prompt="instruction|input",
            first="output_1",
            second="output_2",
            label={JUDGED: NUMBER},
            verdict=partial(by_number, JUDGED),
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
            verdict=partial(by_letter, AB_LABELS),
            scores=SCORES,
        ),
    ),
    _format(
        "scored_pair",
        "prompt, answer_0 and answer_1 + score_0 and score_1, higher is better",
        TwoAnswers(
            prompt=AB_PROMPTS,
            first=f"{_names('_0')}|{AB_FIRST}",
            second=f"{_names('_1')}|{AB_SECOND}",
            label=dict.fromkeys(SCORES, NUMBER),
            verdict=partial(by_scores, SCORES),
            scores=SCORES,
        ),
        absent=f"better_response_id|safer_response_id|{AB_LABELS}",
    ),
    Format(
        name="summaries",
        description="info with a post or an article + two summaries and choice (0 or 1)",
        columns={"info": ("object",), "summaries": TURNS, "choice": FLAG},
        convert=_from_summaries,
        prompt="info",
    ),
)
