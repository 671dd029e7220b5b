"""Turns of every way of writing them: roles, typed parts, thoughts, tools, weights."""

from typing import Any

import pytest
from format_rows import MESSAGES, OPENAI, Q, answer, convert, turn, user

from dpo.data.formats.messages import parse_turn, parse_turns
from dpo.data.formats.tools import parse_tools
from dpo.data.formats.values import RowProblem
from dpo.data.pair import Reject

pytestmark = pytest.mark.unit

CALL = {"name": "find", "arguments": {"q": "x"}}
WRAPPED = {"type": "function", "function": CALL}


@pytest.mark.parametrize(
    ("given", "role"),
    [
        *((role, "user") for role in ("user", "human", "Human", "USER ")),
        *((role, "assistant") for role in ("assistant", "gpt", "model", "bot", "chatgpt")),
        *((role, "system") for role in ("system", "developer")),
        *((role, "tool") for role in ("tool", "function", "observation", "ipython")),
    ],
)
def test_roles(given: str, role: str) -> None:
    assert parse_turn({"role": given, "content": "x"}, "turn") == {"role": role, "content": "x"}
    assert parse_turn({"from": given, "value": "x"}, "turn") == {"role": role, "content": "x"}


def test_a_turn_with_both_ways_of_writing_takes_the_one_that_is_filled() -> None:
    """Tables of mixed sources fill the columns of the other way with nulls."""
    assert parse_turn({"role": None, "content": None, "from": "human", "value": "x"}, "turn") == user("x")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab"),
        ([{"type": "text", "value": "a"}], "a"),
        ([{"text": "a"}, "b"], "ab"),
        ([], ""),
    ],
)
def test_typed_parts_are_joined(content: list[Any], text: str) -> None:
    assert parse_turn({"role": "user", "content": content}, "turn") == user(text)


@pytest.mark.parametrize(
    ("turn", "reason", "detail"),
    [
        ({"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}, "content is not text", "image_url"),
        ({"role": "user", "content": [{"type": "text"}]}, "wrong type", "content[0] is absent"),
        ({"role": "user", "content": [3]}, "wrong type", "content[0] is a number"),
        ({"role": "user", "content": {"text": "x"}}, "wrong type", "content is an object, expected text"),
        ({"role": "assistant", "content": None}, "wrong type", "absent or null"),
        ({"role": "assistant", "content": "x", "tool_calls": [1]}, "wrong type", "tool_calls[0] is 1"),
        (
            {"role": "assistant", "tool_calls": [{"name": "f", "arguments": "{"}]},
            "invalid JSON in a field",
            "arguments",
        ),
        ({"role": "assistant", "tool_calls": [{"name": "f", "arguments": "[1]"}]}, "wrong type", "is a list"),
        ({"role": "assistant", "tool_calls": [{"arguments": {}}]}, "wrong type", "name is absent"),
        (
            {"role": "assistant", "tool_calls": [{"name": "f", "arguments": {"a": "\ud800"}}]},
            "invalid text",
            "surrogate",
        ),
        ({"from": "function_call", "value": "find it"}, "invalid JSON in a field", "value is 'find it'"),
        ({"role": "assistant", "content": "x", "loss_weight": 0.5}, "loss weight is neither 0 nor 1", "0.5"),
        ({"role": 3, "content": "x"}, "unknown role", "role 3"),
        ("text", "wrong type", "is text, expected {role, content}"),
    ],
)
def test_a_turn_that_cannot_be_read(turn: Any, reason: str, detail: str) -> None:
    with pytest.raises(RowProblem) as problem:
        parse_turn(turn, "turn")
    assert problem.value.reason == reason
    assert detail in problem.value.detail


@pytest.mark.parametrize(
    "turn",
    [
        {"role": "assistant", "content": None, "tool_calls": [WRAPPED]},
        {"role": "assistant", "tool_calls": [{"type": "function", "function": {**CALL, "arguments": '{"q": "x"}'}}]},
        {"role": "assistant", "content": "", "tool_calls": CALL},
        {"role": "assistant", "content": None, "function_call": {"name": "find", "arguments": '{"q": "x"}'}},
        {"from": "function_call", "value": '{"name": "find", "arguments": {"q": "x"}}'},
        {"role": "tool_call", "content": '[{"name": "find", "arguments": {"q": "x"}}]'},
    ],
)
def test_tool_calls_have_one_form(turn: dict[str, Any]) -> None:
    assert parse_turn(turn, "turn") == {"role": "assistant", "content": "", "tool_calls": [WRAPPED]}


def test_a_call_keeps_its_id_and_may_have_no_arguments() -> None:
    calls = [{"id": "1", "type": "function", "function": {"name": "now", "arguments": ""}}]
    found = parse_turn({"role": "assistant", "content": "x", "tool_calls": calls}, "turn")
    assert found["tool_calls"] == [{"id": "1", "type": "function", "function": {"name": "now", "arguments": {}}}]


def test_tool_results_and_thoughts() -> None:
    given = {"role": "tool", "content": {"found": "ä"}, "name": "find", "tool_call_id": "1", "extra": 1}
    found = {"role": "tool", "content": '{"found": "ä"}', "name": "find", "tool_call_id": "1"}
    assert parse_turn(given, "turn") == found
    assert parse_turn({"role": "tool", "content": [{"type": "text", "text": "x"}]}, "turn")["content"] == "x"
    assert parse_turn({"role": "tool", "content": [{"id": 1}]}, "turn")["content"] == '[{"id": 1}]'
    assert parse_turn({**answer("x"), "thinking": "hm"}, "turn") == {**answer("x"), "reasoning_content": "hm"}


def test_an_object_of_lists_is_a_list_of_turns() -> None:
    assert parse_turns({"from": ["human", "gpt"], "value": ["a", "b"]}, "x") == [user("a"), answer("b")]
    with pytest.raises(RowProblem, match="expected a list of turns"):
        parse_turns({"from": ["human"], "value": ["a", "b"]}, "x")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (None, None),
        ("", None),
        ([], None),
        (
            '[{"name": "find", "parameters": {}}]',
            [{"type": "function", "function": {"name": "find", "parameters": {}}}],
        ),
        ([{"type": "function", "function": {"name": "f"}}], [{"type": "function", "function": {"name": "f"}}]),
    ],
)
def test_tool_schemas_have_one_form(given: object, found: object) -> None:
    assert parse_tools(given) == found


def test_tools_and_calls_reach_the_pair() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [WRAPPED]}
    result = {"role": "tool", "content": "found", "tool_call_id": "1"}
    row = {
        "input": {"messages": [Q], "tools": [{"type": "function", "function": {"name": "find"}}]},
        "preferred_output": [call, result, answer("c")],
        "non_preferred_output": [answer("r")],
    }
    (pair,) = convert(row)
    assert pair.tools == [{"type": "function", "function": {"name": "find"}}]
    assert pair.prompt == [Q]
    assert [message["role"] for message in pair.chosen] == ["assistant", "tool", "assistant"]
    assert pair.id != convert({**row, "input": {"messages": [Q]}})[0].id


def test_a_prompt_may_end_with_a_tool_result() -> None:
    talk = [turn("human", "q"), turn("function_call", '{"name": "find"}'), turn("observation", "found")]
    (pair,) = convert({"conversations": talk, "chosen": turn("gpt", "c"), "rejected": turn("gpt", "r"), "tools": "[]"})
    assert [message["role"] for message in pair.prompt] == ["user", "assistant", "tool"]
    whole = [user("q"), {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "content": "found"}]
    (pair,) = convert({"chosen": [*whole, answer("c")], "rejected": [*whole, answer("r")]})
    assert [message["role"] for message in pair.prompt] == ["user", "assistant", "tool"]


def test_an_answer_may_be_a_call_alone() -> None:
    (pair,) = convert({**OPENAI, "preferred_output": [{"role": "assistant", "content": None, "tool_calls": [WRAPPED]}]})
    assert pair.chosen == [{"role": "assistant", "content": "", "tool_calls": [WRAPPED]}]


def test_weights_of_0_are_context_and_say_nothing_in_a_prompt() -> None:
    zero, one = {"loss_weight": 0.0}, {"loss_weight": 1.0}
    shared = [{**user("q"), **zero}, {**answer("a"), **zero}, {**user("x"), **one}]
    row = {"chosen": [*shared, {**answer("c"), **one}], "rejected": [*shared, {**answer("r"), **one}]}
    (pair,) = convert(row)
    assert (pair.prompt, pair.chosen) == ([user("q"), answer("a"), user("x")], [answer("c")])
    other = {**row, "rejected": [*({**message, **one} for message in shared), answer("r")]}
    assert convert(other)[0].prompt == pair.prompt
    several = {**MESSAGES, "chosen": [Q, {**answer("a"), **zero}, user("x"), answer("c")]}
    (pair,) = convert(several)
    assert [message.get("scored", True) for message in pair.chosen] == [False, True, True]
    result = convert({**MESSAGES, "chosen": [Q, {**answer("c"), "weight": 0}]})
    assert isinstance(result, Reject)
    assert result.reason == "answer has no weight"
