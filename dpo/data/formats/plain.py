"""Formats whose answers are plain text: prompt, chosen and rejected, or the two texts alone."""

from dpo.data.formats.format import ANSWER, TEXT, Format
from dpo.data.formats.judgement import Judgement
from dpo.data.formats.messages import NO_ANSWER, answer_turn
from dpo.data.formats.prompts import (
    RAW,
    RECOGNISED,
    RENDERED,
    parse_prompt,
    split_answers,
    text_prompt,
)
from dpo.data.formats.rendered import answer_start
from dpo.data.formats.scores import judged_pair
from dpo.data.formats.settings import FormatSettings
from dpo.data.formats.transcripts import is_transcript, transcript_turns
from dpo.data.formats.values import WRONG_TYPE, RowProblem, Values, parse_text, pick, shorten
from dpo.data.pair import Message

CHOSEN = "chosen|chosen_response|chosen_answer|response_j|accepted|good_edited_response"
REJECTED = "rejected|rejected_response|rejected_answer|response_k|bad_edited_response"
BESIDE = "conversations|messages|conversation|context|trajectory|dialogue"  # conversations that wait for an answer
QUESTION = "question|input|query|problem|post"
SIDES: dict[str, tuple[str, ...]] = {CHOSEN: TEXT, REJECTED: TEXT}


def _texts(row: Values) -> tuple[str, str]:
    """The texts of both answers. Raises RowProblem."""
    found = [(side, *pick(row, names)) for side, names in (("chosen", CHOSEN), ("rejected", REJECTED))]
    chosen, rejected = (parse_text(value, name, NO_ANSWER[side]) for side, name, value in found)
    return chosen, rejected


def _pair(row: Values, prompt: list[Message]) -> Judgement:
    chosen, rejected = _texts(row)
    return judged_pair(row, prompt, answer_turn(chosen), answer_turn(rejected))


def _from_strings(row: Values, settings: FormatSettings) -> Judgement:
    prompt, (chosen, rejected) = parse_prompt(row, "prompt", settings.plain_text), _texts(row)
    text = prompt[0]["content"] if prompt and settings.plain_text in (RENDERED, RECOGNISED) else None
    if text and chosen.startswith(text) and rejected.startswith(text):  # whole conversations, the prompt once more
        chosen, rejected = chosen[len(text) :], rejected[len(text) :]
    return judged_pair(row, prompt, answer_turn(chosen), answer_turn(rejected))


def _from_question(row: Values, settings: FormatSettings) -> Judgement:
    name, _ = pick(row, QUESTION)
    return _pair(row, text_prompt(row, _as_text(row, name), settings.plain_text, name))


def _as_text(row: Values, name: str) -> str:
    return parse_text(row.get(name), name, "empty prompt")


def instruction_prompt(row: Values, settings: FormatSettings) -> list[Message]:
    """The prompt of an alpaca row: system, history, instruction and input. Raises RowProblem."""
    text = parse_text(row.get("instruction"), "instruction", "empty prompt")
    extra = row.get("input")
    if extra is not None and extra != "":
        text = f"{text}\n\n{parse_text(extra, 'input', 'empty prompt')}"
    return text_prompt(row, text, settings.plain_text, "instruction")


def any_prompt(names: str, row: Values, settings: FormatSettings) -> list[Message]:
    """The prompt in the first of the columns `names` that has a value; an instruction with its input. Raises
    RowProblem."""
    if pick(row, names)[0] == "instruction":
        return instruction_prompt(row, settings)
    return parse_prompt(row, names, settings.plain_text)


def _from_alpaca(row: Values, settings: FormatSettings) -> Judgement:
    return _pair(row, instruction_prompt(row, settings))


def _from_alpaca_outputs(row: Values, settings: FormatSettings) -> Judgement:
    outputs = row.get("output")
    if not isinstance(outputs, list) or len(outputs) != 2:
        raise RowProblem(WRONG_TYPE, f"output is {shorten(outputs)}, expected [chosen, rejected]")
    return _from_alpaca({**row, "chosen": outputs[0], "rejected": outputs[1]}, settings)


def _from_transcripts(row: Values, settings: FormatSettings) -> Judgement:
    chosen, rejected = _texts(row)
    before = parse_text(row.get("prompt") or "", "prompt")
    whole = [transcript_turns(text if is_transcript(text) else before + text) for text in (chosen, rejected)]
    return judged_pair(row, *split_answers(None, *whole))


def _from_texts(row: Values, settings: FormatSettings) -> Judgement:
    """Two texts with a common beginning: up to the answer's header where they were rendered with a chat template, else
    up to the last blank before they part."""
    chosen, rejected = _texts(row)
    rendered = settings.plain_text in (RENDERED, RECOGNISED)
    start = _common_header(chosen, rejected) if rendered else _common_words(chosen, rejected)
    if not chosen[:start].strip():
        raise RowProblem("no common prompt", "there is no prompt, and chosen and rejected begin differently")
    prompt, answers = chosen[:start], (chosen[start:], rejected[start:])
    if not rendered and settings.plain_text != RAW:
        prompt, answers = prompt.strip(), (answers[0].lstrip(), answers[1].lstrip())
    turns = text_prompt(row, prompt, settings.plain_text)
    return judged_pair(row, turns, answer_turn(answers[0]), answer_turn(answers[1]))


def _common_header(chosen: str, rejected: str) -> int:
    start = min(answer_start(chosen), answer_start(rejected))
    return start if chosen[:start] == rejected[:start] else 0


def _common_words(chosen: str, rejected: str) -> int:
    same = next((i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), None)
    same = min(len(chosen), len(rejected)) if same is None else same
    return next((i for i in range(same, 0, -1) if chosen[i : i + 1].isspace()), 0)


def _is_hh(row: Values) -> bool:
    return is_transcript(pick(row, CHOSEN)[1]) or is_transcript(row.get("prompt"))


def _is_no_hh(row: Values) -> bool:
    return not _is_hh(row)


FORMATS = (
    Format(
        name="hh",
        description='chosen/rejected as dialogues "\\n\\nHuman: ...\\n\\nAssistant: ...", with or without a prompt',
        columns=SIDES,
        convert=_from_transcripts,
        absent=("conversations", "instruction", "question"),
        shape=_is_hh,
        shape_says='a dialogue "Human: ... Assistant: ..." in chosen or prompt',
    ),
    Format(
        name="strings",
        description="prompt as text or messages, chosen and rejected as text",
        columns={"prompt": ANSWER, **SIDES},
        convert=_from_strings,
        absent=("conversations",),
        shape=_is_no_hh,
        shape_says="texts other than dialogues of Human and Assistant",
        prompt="prompt",
    ),
    Format(
        name="orca",
        description="question (or input) and system + chosen/rejected as text",
        columns={QUESTION: TEXT, **SIDES},
        convert=_from_question,
        absent=("prompt", "instruction", "conversations"),
        prompt=QUESTION,
    ),
    Format(
        name="alpaca_ranking",
        description="instruction, input and history + chosen/rejected as text",
        columns={"instruction": TEXT, **SIDES},
        convert=_from_alpaca,
        absent=("prompt", "conversations"),
        prompt="instruction",
    ),
    Format(
        name="alpaca_outputs",
        description="instruction and input + output as [chosen, rejected]",
        columns={"instruction": TEXT, "output": ("list",)},
        convert=_from_alpaca_outputs,
        absent=("chosen", "rejected", "prompt"),
        prompt="instruction",
    ),
    Format(
        name="texts",
        description="chosen and rejected as text that begins with the prompt",
        columns=SIDES,
        convert=_from_texts,
        absent=("prompt", "instruction", "history", *QUESTION.split("|"), *BESIDE.split("|")),
        shape=_is_no_hh,
        shape_says="texts other than dialogues of Human and Assistant",
        prompt=CHOSEN,
    ),
)
