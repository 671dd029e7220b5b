"""Formats with one answer per row and a label that says whether it is good."""

from dpo.data.formats.conversations import split_last
from dpo.data.formats.format import ANSWER, FLAG, TEXT, TURNS, Format
from dpo.data.formats.judgement import SINGLE, Answer, Judgement
from dpo.data.formats.messages import parse_answer, parse_turns
from dpo.data.formats.plain import instruction_prompt
from dpo.data.formats.prompts import parse_prompt, with_system
from dpo.data.formats.settings import FormatSettings
from dpo.data.formats.tools import parse_tools
from dpo.data.formats.values import RowProblem, Values, parse_flag, parse_text, pick, shorten
from dpo.data.pair import Message

LABELS = "label|kto_tag"


def _single(row: Values, prompt: list[Message], answer: list[Message]) -> Judgement:
    name, value = pick(row, LABELS)
    label = parse_flag(value)
    if label is None:
        raise RowProblem("no label", f"{name} is {shorten(value)}, expected true or false")
    good, absent = Answer(turns=answer), Answer(turns=[])
    answers = [good, absent] if label else [absent, good]
    return Judgement(prompt=prompt, answers=answers, kind=SINGLE, tools=parse_tools(row.get("tools")))


def _from_messages(row: Values, settings: FormatSettings) -> Judgement:
    name, value = pick(row, "messages|conversations")
    prompt, answer = split_last(parse_turns(value, name))
    if not answer:
        raise RowProblem("no answer", f"{name} ends with a user turn")
    return _single(row, with_system(row, prompt), answer)


def _from_completion(row: Values, settings: FormatSettings) -> Judgement:
    name, value = pick(row, "completion|response")
    return _single(row, parse_prompt(row, "prompt", settings.plain_text), parse_answer(value, name))


def _from_alpaca(row: Values, settings: FormatSettings) -> Judgement:
    answer = parse_answer(parse_text(row.get("output"), "output", "no answer"), "output")
    return _single(row, instruction_prompt(row, settings), answer)


def _has_flag(row: Values) -> bool:
    return parse_flag(pick(row, LABELS)[1]) is not None


PAIRED = ("chosen", "rejected", "rejected_response", "rejected_messages")
FORMATS = (
    Format(
        name="unpaired_messages",
        description="messages (or conversations) that end with an answer + label true/false",
        columns={"messages|conversations": TURNS, LABELS: FLAG},
        shape=_has_flag,
        shape_says="a label that is true/false, or 1/0",
        convert=_from_messages,
        absent=PAIRED,
    ),
    Format(
        name="unpaired",
        description="prompt and completion (or response) + label true/false",
        columns={"prompt": ANSWER, "completion|response": ANSWER, LABELS: FLAG},
        shape=_has_flag,
        shape_says="a label that is true/false, or 1/0",
        convert=_from_completion,
        absent=(*PAIRED, "helpfulness"),
        prompt="prompt",
    ),
    Format(
        name="unpaired_alpaca",
        description="instruction, input and output + kto_tag (or label) true/false",
        columns={"instruction": TEXT, "output": TEXT, LABELS: FLAG},
        shape=_has_flag,
        shape_says="a label that is true/false, or 1/0",
        convert=_from_alpaca,
        absent=(*PAIRED, "prompt"),
        prompt="instruction",
    ),
)
