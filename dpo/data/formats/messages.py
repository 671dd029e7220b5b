"""Turns of a conversation, as the many ways of writing them are read."""

import json
from typing import Any

from dpo.data.formats.tools import parse_calls
from dpo.data.formats.values import WRONG_TYPE, RowProblem, parse_text, pick, rows_of, shorten, type_name
from dpo.data.pair import Message

CALL = "function_call"  # a turn that is nothing but a tool call, as JSON text
ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bing", "bard", "model", "bot", "ai"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "ipython", "tool_response"), "tool"),
    **dict.fromkeys((CALL, "tool_call"), CALL),
}
ROLE_KEYS, TEXT_KEYS, THOUGHT_KEYS = (
    "role|from|speaker",
    "content|value|text|parts",
    "reasoning_content|reasoning|thinking",
)
ANSWER_KEYS = "response|answer|completion|text|output|content|messages"  # of an object that names no role
WEIGHT_KEYS = "loss_weight|weight"
NO_ANSWER = {"chosen": "no chosen answer", "rejected": "no rejected answer"}


def parse_turn(value: object, name: str) -> Message:
    """One turn, {role, content} or {from, value}, in the form of `Message`. Raises RowProblem."""
    if not isinstance(value, dict):
        raise RowProblem(WRONG_TYPE, f"{name} is {type_name(value)}, expected {{role, content}} or {{from, value}}")
    role = _role(value, name)
    text_key, content = pick(value, TEXT_KEYS)
    label = f"{name}.{text_key}"
    if role == CALL:
        return {"role": "assistant", "content": "", "tool_calls": parse_calls(content, label)}
    if role == "assistant":
        return _assistant(value, content, label, name)
    if role == "tool":
        return _tool(value, content, label)
    return {"role": role, "content": parse_content(content, label)}


def parse_turns(value: object, name: str) -> list[Message]:
    """A list of turns, or the object of lists that Arrow tables make of one. Raises RowProblem."""
    if value is None:
        raise RowProblem("empty prompt", f"{name} is absent or null")
    turns = rows_of(value)
    if not isinstance(turns, list):
        raise RowProblem(WRONG_TYPE, f"{name} is {type_name(turns)}, expected a list of turns")
    return [parse_turn(turn, f"{name}[{i}]") for i, turn in enumerate(turns)]


def parse_answer(value: object, name: str) -> list[Message]:
    """An answer: text, one turn, a list of turns, or an object that holds one of these. Raises RowProblem."""
    value = without_role(value)
    if value is None or value == []:
        raise RowProblem(no_answer(name), f"{name} is absent, null or an empty list")
    value = rows_of(value)
    if isinstance(value, list):
        return parse_turns(value, name)
    if isinstance(value, dict):
        return [parse_turn(value, name)]
    return answer_turn(parse_text(value, name, no_answer(name)))


def without_role(value: object) -> object:
    """What an object that is no turn holds as its answer; else `value` as it is."""
    if isinstance(value, dict) and not set(ROLE_KEYS.split("|")) & value.keys():
        return pick(value, ANSWER_KEYS)[1]
    return value


def answer_turn(text: str) -> list[Message]:
    return [{"role": "assistant", "content": text}]


def no_answer(name: str) -> str:
    """The reason for a row whose answer in the column `name` is not there."""
    return next((reason for side, reason in NO_ANSWER.items() if side in name), "no answer")


def parse_content(value: object, name: str) -> str:
    """The text of a turn: text, or a list of typed parts {"type": "text", "text": ...}, joined. Raises RowProblem."""
    if not isinstance(value, list):
        return parse_text(value, name)
    return "".join(_part(part, f"{name}[{i}]") for i, part in enumerate(value))


def _part(value: object, name: str) -> str:
    if isinstance(value, str):
        return parse_text(value, name)
    if not isinstance(value, dict):
        raise RowProblem(WRONG_TYPE, f"{name} is {type_name(value)}, expected a part with a text")
    if value.get("type", "text") not in ("text", "input_text", "output_text"):
        raise RowProblem("content is not text", f"{name} is of type {shorten(value['type'])}; only text can be read")
    return parse_text(pick(value, "text|value|content")[1], name)


def _role(value: dict[str, Any], name: str) -> str:
    key, role = pick(value, ROLE_KEYS)
    known = ROLES.get(role.strip().lower()) if isinstance(role, str) else None
    if known is None:
        raise RowProblem("unknown role", f"{name} has {key} {shorten(role)}; known: {', '.join(ROLES)}")
    return known


def _assistant(value: dict[str, Any], content: object, label: str, name: str) -> Message:
    calls = value.get("tool_calls") or value.get("function_call")
    turn: Message = {"role": "assistant"}
    turn["content"] = "" if calls and content is None else parse_content(content, label)
    thought_key, thought = pick(value, THOUGHT_KEYS)
    if thought:
        turn["reasoning_content"] = parse_text(thought, f"{name}.{thought_key}")
    if calls:
        turn["tool_calls"] = parse_calls(calls, f"{name}.tool_calls")
    if _weight(value, name) == 0:
        turn["scored"] = False
    return turn


def _tool(value: dict[str, Any], content: object, label: str) -> Message:
    if isinstance(content, dict) or (isinstance(content, list) and not all(_is_part(part) for part in content)):
        content = json.dumps(content, ensure_ascii=False)  # a result that was left as an object
    known = {
        key: parse_text(value[key], label.rpartition(".")[0] + f".{key}")
        for key in ("name", "tool_call_id")
        if value.get(key) is not None
    }
    return {"role": "tool", "content": parse_content(content, label), **known}


def _is_part(value: object) -> bool:
    return isinstance(value, dict) and "type" in value and bool({"text", "value", "content"} & value.keys())


def _weight(value: dict[str, Any], name: str) -> float:
    """The weight of a turn in the loss: 1 where it names none. Only assistant turns are ever scored, so that the weight
    of another turn says nothing. Raises RowProblem: a weight between, which would need another loss."""
    key, weight = pick(value, WEIGHT_KEYS)
    if weight is None or weight in (0, 1):
        return 1 if weight is None else weight
    raise RowProblem("loss weight is neither 0 nor 1", f"{name}.{key} is {shorten(weight)}")
