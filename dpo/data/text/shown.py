"""Whether a template shows all that messages say: one that passes over a turn loses it in silence."""

import json
import re
from collections.abc import Iterator
from typing import Any

from dpo.data.formats.values import RowProblem
from dpo.data.pair import Message

EMPTY_THOUGHT = re.compile(r"<think>\s*</think>")


def require_shown(messages: list[Message], text: str, place: str) -> None:
    """Raises RowProblem unless `text`, which is "the prompt" or "the answer", shows every turn.

    Blanks may differ: templates trim and move line breaks. Of earlier turns of the prompt the thoughts may be missing,
    as templates of reasoning models intend. A tool's text and a call's arguments may stand there as JSON.
    """
    squeezed = ""
    for turn in messages:
        for part in _parts(turn, thoughts=place == "the answer"):
            if part.strip() in text or _as_json(part) in text:
                continue
            squeezed = squeezed or _squeeze(text)
            if _squeeze(part) not in squeezed:
                detail = f"{_quote(part)} of its {turn['role']} turn is not in the rendered text"
                raise RowProblem(f"template changes {place}", f"{detail}; model.chat_template takes another template")


def require_tools(tools: list[dict[str, Any]] | None, text: str) -> None:
    """Raises RowProblem unless `text` names every function that the row offers."""
    names = [str(_function(tool).get("name", "")) for tool in tools or []]
    if missing := [name for name in names if name not in text]:
        raise RowProblem(
            "template does not show the tools",
            f"{', '.join(missing[:5])} missing in the prompt; model.chat_template takes a template that shows them",
        )


def _parts(turn: Message, *, thoughts: bool) -> Iterator[str]:
    """The texts of a turn that have to be found."""
    content = turn["content"]
    yield content if thoughts or turn["role"] != "assistant" else content.rpartition("</think>")[2]
    if thoughts and turn.get("reasoning_content"):
        yield turn["reasoning_content"]
    for call in turn.get("tool_calls") or []:
        yield str(_function(call).get("name", ""))
        yield from _leaves(_function(call).get("arguments"))


def _function(value: dict[str, Any]) -> dict[str, Any]:
    """What is offered or called: the object itself or its "function", as in OpenAI's form."""
    inner = value.get("function")
    return inner if isinstance(inner, dict) else value


def _leaves(value: Any) -> Iterator[str]:
    """The texts in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from (key, *_leaves(item))
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)


def _as_json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _squeeze(text: str) -> str:
    """`text` without blanks and empty thoughts."""
    return "".join(EMPTY_THOUGHT.sub("", text).split())


def _quote(text: str) -> str:
    shown = repr(text)
    return shown if len(shown) <= 60 else shown[:57] + "..."
