"""Parts of rows that every format shares: turns, answers, and the prompt that answers repeat."""

from dataclasses import dataclass
from typing import Any

from dpo.data.pair import Message

ROLES = {"system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}
NO_ANSWER = {"chosen": "no chosen answer", "rejected": "no rejected answer"}
WRONG_TYPE = "wrong type"


class RowProblem(Exception):
    """Why a row is no pair; it never leaves the data folder, where it becomes a `Reject`."""

    def __init__(self, reason: str, detail: str):
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


@dataclass(kw_only=True, slots=True)
class Answers:
    """What a format makes of a row."""

    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]


def parse_text(value: object, name: str, absent: str) -> str:
    """`value` as text. Raises RowProblem: `absent` when it is null, or a wrong type, or text that is not Unicode."""
    if value is None:
        raise RowProblem(absent, f"{name} is absent or null")
    if not isinstance(value, str):
        raise RowProblem(WRONG_TYPE, f"{name} is {_type_name(value)}, expected text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:  # "\ud800" in JSON: half of a surrogate pair, which no tokenizer takes
        raise RowProblem(
            "invalid text", f"{name} holds half a surrogate pair at character {error.start + 1}"
        ) from error
    return value


def parse_turn(value: object, name: str) -> Message:
    """One turn, {role, content} or {from, value}. Raises RowProblem."""
    if not isinstance(value, dict):
        raise RowProblem(WRONG_TYPE, f"{name} is {_type_name(value)}, expected {{role, content}} or {{from, value}}")
    if value.get("tool_calls"):
        raise RowProblem("tool calls are not supported", f"{name} holds tool_calls")
    role_key, text_key = ("from", "value") if "from" in value else ("role", "content")
    role = value.get(role_key)
    if not isinstance(role, str) or role not in ROLES:
        raise RowProblem("unknown role", f"{name} has {role_key} {_shorten(role)}; known: {', '.join(ROLES)}")
    return {"role": ROLES[role], "content": parse_text(value.get(text_key), f"{name}.{text_key}", WRONG_TYPE)}


def parse_turns(value: object, name: str) -> list[Message]:
    """A list of turns. Raises RowProblem."""
    if value is None:
        raise RowProblem("empty prompt", f"{name} is absent or null")
    if not isinstance(value, list):
        raise RowProblem(WRONG_TYPE, f"{name} is {_type_name(value)}, expected a list of turns")
    return [parse_turn(turn, f"{name}[{i}]") for i, turn in enumerate(value)]


def parse_answer(value: object, name: str) -> list[Message]:
    """An answer: text, one turn, or a list of turns. Raises RowProblem."""
    if value is None or value == []:
        raise RowProblem(NO_ANSWER[name], f"{name} is absent, null or an empty list")
    if isinstance(value, list):
        return parse_turns(value, name)
    if isinstance(value, dict):
        return [parse_turn(value, name)]
    return [{"role": "assistant", "content": parse_text(value, name, NO_ANSWER[name])}]


def with_system(value: object, prompt: list[Message]) -> list[Message]:
    """`prompt` with the text of a `system` column before it; a blank one adds nothing. Raises RowProblem."""
    if value is None:
        return prompt
    text = parse_text(value, "system", WRONG_TYPE)
    if not text.strip() or (prompt and prompt[0]["role"] == "system"):
        return prompt
    return [{"role": "system", "content": text}, *prompt]


def split_answers(prompt: list[Message] | None, chosen: list[Message], rejected: list[Message]) -> Answers:
    """Take off the prompt that both answers repeat; without `prompt`, what they have in common is the prompt.

    A common beginning longer than `prompt` belongs to the prompt too. Raises RowProblem.
    """
    common = _common_prompt(chosen, rejected)
    start = len(common)
    if prompt is None and not common:
        raise RowProblem("no common prompt", "there is no prompt, and chosen and rejected begin differently")
    if prompt is None or common[: len(prompt)] == prompt or _repeats(prompt, common):
        return Answers(prompt=common, chosen=chosen[start:], rejected=rejected[start:])
    if chosen[0]["role"] == rejected[0]["role"] == "assistant":
        return Answers(prompt=prompt + common, chosen=chosen[start:], rejected=rejected[start:])
    raise RowProblem("answers do not continue the prompt", "chosen and rejected begin with other turns than the prompt")


def _repeats(prompt: list[Message], common: list[Message]) -> bool:
    """Whether `prompt` is told by `common` in other words: only its last user turn, or with other blanks around it."""
    return bool(prompt) and any(
        turn["role"] == prompt[-1]["role"] and turn["content"].strip() == prompt[-1]["content"].strip()
        for turn in common
    )


def _common_prompt(chosen: list[Message], rejected: list[Message]) -> list[Message]:
    """The turns that both lists begin with, up to the last user turn that has an answer after it in both."""
    length = 0
    for mine, theirs in zip(chosen[:-1], rejected[:-1], strict=False):
        if mine != theirs:
            break
        length += 1
    while length and chosen[length - 1]["role"] != "user":
        length -= 1
    return chosen[:length]


def check(answers: Answers) -> None:
    """Hold a converted row to what a pair must be. Raises RowProblem."""
    prompt = answers.prompt
    if not prompt or not prompt[-1]["content"].strip():
        raise RowProblem(
            "empty prompt", "the prompt has no text in its last turn" if prompt else "the prompt has no turns"
        )
    if prompt[-1]["role"] != "user":
        raise RowProblem("prompt does not end with a user turn", f"its last turn is {prompt[-1]['role']}")
    for name, answer in (("chosen", answers.chosen), ("rejected", answers.rejected)):
        if not answer:
            raise RowProblem(NO_ANSWER[name], f"{name} holds nothing after the prompt")
        for turn in (answer[0], answer[-1]):
            if turn["role"] != "assistant":
                raise RowProblem("answer is not an assistant turn", f"{name} has a turn of role {turn['role']}")
        if not answer[-1]["content"].strip():
            raise RowProblem("empty answer", f"{name} is blank")
    if answers.chosen == answers.rejected:
        raise RowProblem("chosen equals rejected", f"both are {_shorten(answers.chosen[-1]['content'])}")


def _type_name(value: object) -> str:
    names: dict[type, str] = {str: "text", dict: "an object", list: "a list", bool: "true/false"}
    names |= {int: "a number", float: "a number"}
    return names.get(type(value), "null" if value is None else type(value).__name__)


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
