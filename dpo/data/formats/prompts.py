"""What stands before the answers: text or turns, a system column, and the prompt that answers repeat."""

from dpo.data.formats.messages import answer_turn, parse_answer, parse_turns
from dpo.data.formats.rendered import is_rendered
from dpo.data.formats.transcripts import prompt_turns
from dpo.data.formats.values import WRONG_TYPE, RowProblem, Values, parse_text, pick, shorten
from dpo.data.pair import Message

RAW, RENDERED = "raw", "rendered"
RECOGNISED = "recognised"  # as rendered, told by the markers that every such prompt must open with
ENDS = ("user", "tool", "raw", "tokens")  # roles that an answer follows


def parse_prompt(row: Values, names: str, style: str) -> list[Message]:
    """The prompt in the first of the columns `names` that has a value, with the row's system text. Raises RowProblem.

    `style`: what text without roles is: "user_turn", "raw" (text that the answer continues), "rendered" (the same, with
    control tokens in it) or "recognised" (rendered, and chat markers must open it).
    """
    name, value = pick(row, names)
    if isinstance(value, dict) and "full_text" in value:  # as WebGPT's set keeps a question
        return text_prompt(row, parse_text(value["full_text"], f"{name}.full_text", "empty prompt"), style, name)
    if isinstance(value, (list, dict)):
        return with_system(row, parse_turns(value, name))
    return text_prompt(row, parse_text(value, name, "empty prompt"), style, name)


def text_prompt(row: Values, text: str, style: str, name: str = "prompt") -> list[Message]:
    """A prompt that is plain text, with the row's system text and its earlier turns. Raises RowProblem."""
    history = [] if name == "history" else history_turns(row.get("history"))
    if history:
        style = "user_turn"  # turns need a template
    if style == RECOGNISED and not is_rendered(text):
        raise RowProblem("prompt without chat markers", f"{name} has none at its start, as most rows of the data do")
    if style == RAW:
        return [{"role": "raw", "content": _with_system_text(row, text, style)}]
    if style in (RENDERED, RECOGNISED):
        return [{"role": "raw", "content": _with_system_text(row, text, style), "rendered": True}]
    return with_system(row, [*history, *(prompt_turns(text) or [{"role": "user", "content": text}])])


def with_system(row: Values, prompt: list[Message]) -> list[Message]:
    """`prompt` with the text of the column `system` before it; a blank one adds nothing. Raises RowProblem."""
    text = _system_text(row)
    if not text or (prompt and prompt[0]["role"] == "system"):
        return prompt
    return [{"role": "system", "content": text}, *prompt]


def _with_system_text(row: Values, text: str, style: str) -> str:
    system = _system_text(row)
    if system in text:
        return text
    if style != RAW:
        raise RowProblem("system text beside a rendered prompt", f"the prompt does not hold {shorten(system)}")
    return f"{system}\n\n{text}"


def _system_text(row: Values) -> str:
    name, value = pick(row, "system|system_prompt")
    text = "" if value is None else parse_text(value, name, WRONG_TYPE)
    return text if text.strip() else ""


def history_turns(value: object) -> list[Message]:
    """The earlier turns beside a plain prompt: [[question, answer], ...], or turns with roles. Raises RowProblem."""
    if value is None or value == "":
        return []
    if isinstance(value, list) and value and all(isinstance(turn, dict) for turn in value):
        return parse_turns(value, "history")
    if not isinstance(value, list) or any(not isinstance(pair, list) or len(pair) != 2 for pair in value):
        raise RowProblem(WRONG_TYPE, "history is no list of [question, answer]")
    turns: list[Message] = []
    for i, (question, answer) in enumerate(value):
        turns.append({"role": "user", "content": parse_text(question, f"history[{i}][0]")})
        turns += answer_turn(parse_text(answer, f"history[{i}][1]"))
    return turns


def sides(row: Values, chosen: str = "chosen", rejected: str = "rejected") -> tuple[list[Message], list[Message]]:
    """Both answers as turns, from the columns of these names. Raises RowProblem."""
    (chosen, first), (rejected, second) = pick(row, chosen), pick(row, rejected)
    return parse_answer(first, chosen), parse_answer(second, rejected)


def split_answers(
    prompt: list[Message] | None, chosen: list[Message], rejected: list[Message]
) -> tuple[list[Message], list[Message], list[Message]]:
    """(prompt, chosen, rejected) without the prompt that both answers repeat; without `prompt`, what they have in
    common is the prompt.

    A common beginning longer than `prompt` belongs to the prompt too. Raises RowProblem.
    """
    common = _common_prompt(chosen, rejected)
    chosen_rest, rejected_rest = chosen[len(common) :], rejected[len(common) :]
    if prompt is None and not common:
        raise RowProblem("no common prompt", "there is no prompt, and chosen and rejected begin differently")
    if prompt is None or common[: len(prompt)] == prompt or _repeats(prompt, common):
        return common, chosen_rest, rejected_rest
    if chosen[0]["role"] == rejected[0]["role"] == "assistant":
        return prompt + common, chosen_rest, rejected_rest
    raise RowProblem("answers do not continue the prompt", "chosen and rejected begin with other turns than the prompt")


def _repeats(prompt: list[Message], common: list[Message]) -> bool:
    """Whether `prompt` is told by `common` in other words: only its last user turn, or with other blanks around it."""
    return bool(prompt) and any(
        turn["role"] == prompt[-1]["role"] and turn["content"].strip() == prompt[-1]["content"].strip()
        for turn in common
    )


def _common_prompt(chosen: list[Message], rejected: list[Message]) -> list[Message]:
    """The turns that both lists begin with, up to the last turn that an answer follows in both."""
    length = 0
    for mine, theirs in zip(chosen[:-1], rejected[:-1], strict=False):
        if unweighted(mine) != unweighted(theirs):
            break
        length += 1
    while length and chosen[length - 1]["role"] not in ENDS:
        length -= 1
    return chosen[:length]


def unweighted(turn: Message) -> Message:
    """A turn of the prompt, where a loss weight says nothing: no prompt is scored."""
    return {key: value for key, value in turn.items() if key != "scored"}
