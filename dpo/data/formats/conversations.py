"""Formats whose chosen and rejected answers are messages."""

from dpo.data.formats import plain
from dpo.data.formats.format import ANSWER, TURNS, Format
from dpo.data.formats.judgement import Judgement
from dpo.data.formats.messages import NO_ANSWER, ROLE_KEYS, ROLES, parse_answer, parse_turns
from dpo.data.formats.plain import BESIDE
from dpo.data.formats.prompts import ENDS, parse_prompt, sides, split_answers, with_system
from dpo.data.formats.scores import judged_pair
from dpo.data.formats.settings import FormatSettings
from dpo.data.formats.values import WRONG_TYPE, RowProblem, Values, pick, type_name
from dpo.data.pair import Message

CHOSEN = f"{plain.CHOSEN}|chosen_messages|chosen_conversations"
REJECTED = f"{plain.REJECTED}|rejected_messages|rejected_conversations"
PREFERRED, OTHER = "preferred_output|preferred_completion", "non_preferred_output|non_preferred_completion"
PROMPTS = "prompt|question|instruction|query|input"
ASKED, ANSWERED = "query|instruction|prompt", "response|output"
REJECTED_ALONE = "rejected_response|rejected_messages"


def _from_sharegpt(row: Values, settings: FormatSettings) -> Judgement:
    name, value = pick(row, BESIDE)
    return judged_pair(row, with_system(row, parse_turns(value, name)), *sides(row, CHOSEN, REJECTED))


def _from_messages(row: Values, settings: FormatSettings) -> Judgement:
    answers = sides(row, CHOSEN, REJECTED)
    alone = all(turns[0]["role"] == "assistant" for turns in answers)  # else other columns need not be their prompt
    name, value = pick(row, PROMPTS if alone else "prompt")
    prompt = None if value is None else parse_prompt({name: value}, name, "user_turn")
    prompt, chosen, rejected = split_answers(prompt, *answers)
    return judged_pair(row, with_system(row, prompt), chosen, rejected)


def _from_openai(row: Values, settings: FormatSettings) -> Judgement:
    given = row.get("input")
    if not isinstance(given, dict):
        raise RowProblem(WRONG_TYPE, f"input is {type_name(given)}, expected an object with messages")
    found = [(side, *pick(row, names)) for side, names in (("chosen", PREFERRED), ("rejected", OTHER))]
    for side, name, value in found:
        if value is None or value == []:
            raise RowProblem(NO_ANSWER[side], f"{name} is absent, null or an empty list")
    chosen, rejected = (parse_answer(value, name) for _, name, value in found)
    prompt = parse_turns(given.get("messages"), "input.messages")
    return judged_pair({**row, "tools": given.get("tools")}, prompt, chosen, rejected)


def _from_swift(row: Values, settings: FormatSettings) -> Judgement:
    turns = parse_turns(row.get("messages"), "messages")
    name, value = pick(row, REJECTED_ALONE)
    rejected = parse_answer(value, name)
    if rejected[0]["role"] != "assistant":  # a whole conversation of its own
        prompt, chosen, rejected = split_answers(None, turns, rejected)
    else:
        prompt, chosen = split_last(turns)
    return judged_pair(row, with_system(row, prompt), chosen, rejected)


def _from_query(row: Values, settings: FormatSettings) -> Judgement:
    (name, chosen), (other, rejected) = pick(row, ANSWERED), pick(row, REJECTED_ALONE)
    prompt = plain.any_prompt(ASKED, row, settings)
    return judged_pair(row, prompt, parse_answer(chosen, name), parse_answer(rejected, other))


def split_last(turns: list[Message]) -> tuple[list[Message], list[Message]]:
    """(prompt, answer) of a conversation: the answer is what follows its last user turn."""
    end = max((i for i, turn in enumerate(turns, start=1) if turn["role"] == "user"), default=0)
    return turns[:end], turns[end:]


def _prompt_is_beside(row: Values) -> bool:
    """Whether the conversation beside the answers waits for one: some sets keep a whole one there, with an answer."""
    value = pick(row, BESIDE)[1]
    if not isinstance(value, list) or not value or not isinstance(value[-1], dict):
        return "conversations" in row
    return ROLES.get(str(pick(value[-1], ROLE_KEYS)[1]).lower()) in ENDS


def _are_messages(row: Values) -> bool:
    value = pick(row, CHOSEN)[1]
    turns = value if isinstance(value, list) else [value]
    return bool(turns) and all(isinstance(turn, dict) for turn in turns) and not _prompt_is_beside(row)


FORMATS = (
    Format(
        name="sharegpt",
        description="conversations (or messages, context, ...) + chosen/rejected as text or messages",
        columns={BESIDE: TURNS, CHOSEN: ANSWER, REJECTED: ANSWER},
        convert=_from_sharegpt,
        shape=_prompt_is_beside,
        shape_says="a conversation that ends with a user turn",
    ),
    Format(
        name="messages",
        description="chosen/rejected as lists of {role, content}, the prompt beside them, in them, or both",
        columns={CHOSEN: TURNS, REJECTED: TURNS},
        convert=_from_messages,
        absent=("conversations",),
        shape=_are_messages,
        shape_says="{role, content} objects in chosen",
    ),
    Format(
        name="openai",
        description="input.messages and input.tools + preferred_output and non_preferred_output",
        columns={"input": ("object",), PREFERRED: ANSWER, OTHER: ANSWER},
        convert=_from_openai,
    ),
    Format(
        name="swift",
        description="messages that end with the chosen answer + rejected_response",
        columns={"messages": TURNS, REJECTED_ALONE: ANSWER},
        convert=_from_swift,
        absent=tuple(CHOSEN.split("|")),
    ),
    Format(
        name="swift_query",
        description="query (or instruction and input) with history + response (or output) and rejected_response",
        columns={ASKED: ANSWER, ANSWERED: ANSWER, REJECTED_ALONE: ANSWER},
        convert=_from_query,
        absent=("messages", *CHOSEN.split("|")),
        prompt=ASKED,
    ),
)
