"""Tool schemas, tool calls and arguments, in the one form that chat templates read."""

import json
from typing import Any

from dpo.data.formats.values import WRONG_TYPE, RowProblem, from_json, parse_text, shorten, type_name


def parse_tools(value: object, name: str = "tools") -> list[dict[str, Any]] | None:
    """The functions that a prompt offers, each {"type": "function", "function": {"name", ...}}; None when there are
    none. `value`: a list of such objects or of bare {"name", ...}, or that list as JSON text. Raises RowProblem."""
    if value is None or value == "":
        return None
    schemas = from_json(value, name)
    if not isinstance(schemas, list):
        raise RowProblem(WRONG_TYPE, f"{name} is {type_name(schemas)}, expected a list of functions")
    return [_schema(schema, f"{name}[{i}]") for i, schema in enumerate(schemas)] or None


def _schema(value: object, name: str) -> dict[str, Any]:
    function = value.get("function", value) if isinstance(value, dict) else None
    if not isinstance(function, dict):
        raise RowProblem(WRONG_TYPE, f"{name} is {shorten(value)}, expected an object with a function")
    parse_text(function.get("name"), f"{name}.name")
    return {"type": "function", "function": _sound(function, name)}


def parse_arguments(value: object, name: str = "chat_template_kwargs") -> dict[str, Any] | None:
    """What a row gives the chat template besides its messages, as TRL's rows do: {"enable_thinking": false}; None when
    there is nothing. `value`: an object (null in it is what Arrow tables make of an absent one) or its JSON. Raises
    RowProblem."""
    given = None if value is None or value == "" else from_json(value, name)
    if given is None:
        return None
    if not isinstance(given, dict):
        raise RowProblem(WRONG_TYPE, f"{name} is {type_name(given)}, expected an object")
    return _sound({key: item for key, item in given.items() if item is not None}, name) or None


def parse_calls(value: object, name: str) -> list[dict[str, Any]]:
    """Tool calls, each {"type": "function", "function": {"name", "arguments": object}}, with its "id" if it has one.

    `value`: one call or a list of them, bare {"name", "arguments"} or in the form above, as an object or as JSON text;
    arguments as JSON text (the OpenAI form) become the object. Raises RowProblem.
    """
    calls = from_json(value, name)
    calls = calls if isinstance(calls, list) else [calls]
    return [_call(call, f"{name}[{i}]") for i, call in enumerate(calls)]


def _call(value: object, name: str) -> dict[str, Any]:
    function = value.get("function", value) if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(function, dict):
        raise RowProblem(WRONG_TYPE, f"{name} is {shorten(value)}, expected {{name, arguments}}")
    known = {} if value.get("id") is None else {"id": parse_text(value["id"], f"{name}.id")}
    arguments = function.get("arguments")
    arguments = {} if arguments in (None, "") else from_json(arguments, f"{name}.arguments")
    if not isinstance(arguments, dict):
        raise RowProblem(WRONG_TYPE, f"{name}.arguments is {type_name(arguments)}, expected an object")
    called = {"name": parse_text(function.get("name"), f"{name}.name"), "arguments": _sound(arguments, name)}
    return {**known, "type": "function", "function": called}


def _sound(value: dict[str, Any], name: str) -> dict[str, Any]:
    """`value` when all text in it can be encoded. Raises RowProblem."""
    parse_text(json.dumps(value, ensure_ascii=False), name)
    return value
