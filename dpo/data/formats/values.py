"""Single values of a row: text, numbers, one of several columns, and what is said about them in a reject."""

import json
import math
from contextlib import suppress
from typing import Any

Values = dict[str, Any]
"""One row before it is understood: column -> value."""

WRONG_TYPE = "wrong type"
NO_NUMBER = ("", "n/a", "na", "nan", "none", "null")  # how judges and table programs write an absent rating
TYPE_NAMES: dict[type, str] = {str: "text", dict: "an object", list: "a list", bool: "true/false"}
TYPE_NAMES |= {int: "a number", float: "a number", type(None): "null"}


class RowProblem(Exception):
    """Why a row is no pair; it never leaves the data folder, where it becomes a `Reject`."""

    def __init__(self, reason: str, detail: str):
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class LeftOut(RowProblem):
    """Why a sound row gives no pair, such as a tie; it becomes a `Dropped`, which is never an error."""


def pick(row: Values, names: str) -> tuple[str, Any]:
    """(column, value) of the first of the columns "a|b|c" that has a value; (the first name, None) if none has."""
    alternatives = names.split("|")
    found = next((name for name in alternatives if row.get(name) is not None), alternatives[0])
    return found, row.get(found)


def parse_text(value: object, name: str, absent: str = WRONG_TYPE) -> str:
    """`value` as text. Raises RowProblem: `absent` when it is null, or a wrong type, or text that is not Unicode."""
    if value is None:
        raise RowProblem(absent, f"{name} is absent or null")
    if not isinstance(value, str):
        raise RowProblem(WRONG_TYPE, f"{name} is {type_name(value)}, expected text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:  # "\ud800" in JSON: half of a surrogate pair, which no tokenizer takes
        raise RowProblem(
            "invalid text", f"{name} holds half a surrogate pair at character {error.start + 1}"
        ) from error
    return value


def parse_number(value: object, name: str) -> float | None:
    """An optional number of the pair itself. Raises RowProblem: neither null nor a finite number."""
    if value is None:
        return None
    number = _as_float(value)
    if not math.isfinite(number):
        raise RowProblem(f"{name} is not a number", f"{name} is {shorten(value)}, expected a finite number or null")
    return number


def parse_score(value: object, name: str) -> float | None:
    """A rating by a judge: a number, a number as text, or absent (null, NaN, "N/A"). Raises RowProblem."""
    if isinstance(value, str) and value.strip().lower() in NO_NUMBER:
        return None
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, str):
        with suppress(ValueError):  # then `parse_number` says what it is
            value = float(value)
    return parse_number(value, name)


def parse_flag(value: object) -> bool | None:
    """true/false, 1/0, or either as text; None for anything else."""
    if isinstance(value, str):
        return {"true": True, "1": True, "false": False, "0": False}.get(value.strip().lower())
    return value == 1 if isinstance(value, (bool, int, float)) and value in (0, 1) else None


def from_json(value: object, name: str) -> Any:
    """`value`, or what it holds where it is JSON text. Raises RowProblem."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise RowProblem("invalid JSON in a field", f"{name} is {shorten(value)}: {shorten(str(error))}") from error


def rows_of(value: object) -> object:
    """[{a: 1, b: 3}, {a: 2, b: 4}] for {a: [1, 2], b: [3, 4]}, which Arrow tables make of it; else `value` as it is."""
    if not isinstance(value, dict):
        return value
    columns = {name: column for name, column in value.items() if column is not None}
    if not columns or any(not isinstance(column, list) for column in columns.values()):
        return value
    if len({len(column) for column in columns.values()}) > 1:
        return value
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def type_name(value: object) -> str:
    return TYPE_NAMES.get(type(value), type(value).__name__)


def shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _as_float(value: object) -> float:
    try:
        return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
    except OverflowError:  # an integer beyond 1.8e308
        return math.inf
