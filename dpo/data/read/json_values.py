"""JSON text to rows: what is refused besides broken syntax, and what is said of it."""

import json
from typing import Any

from dpo.data.pair import Reject
from dpo.data.read.origin import Row

INVALID_JSON = "invalid JSON"
INVALID_UTF8 = "invalid UTF-8"
DUPLICATE_KEY = "duplicate key"
NOT_AN_OBJECT = "row is not an object"


class DuplicateKey(ValueError):
    """An object that names a key twice: `json` keeps the last value and says nothing."""


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) < len(members):
        names = [name for name, _ in members]
        twice = next(name for name in names if names.count(name) > 1)
        raise DuplicateKey(f"the key {shorten(twice)} stands twice in one object")
    return found


STRICT = json.JSONDecoder(object_pairs_hook=_object)
# Finds the end of a value that STRICT refuses though its syntax is clear: a duplicate key, a number of more than 4300
# digits (which Python does not convert), a control character inside text.
LENIENT = json.JSONDecoder(strict=False, parse_int=str)


def reject(error: ValueError | RecursionError, source: str) -> Reject:
    """The row that could not be decoded."""
    reason = DUPLICATE_KEY if isinstance(error, DuplicateKey) else INVALID_JSON
    return Reject(source=source, reason=reason, detail=str(error))


def as_row(value: object, source: str) -> Row | Reject:
    """A decoded value as a row, if it is an object."""
    if isinstance(value, dict):
        return Row(values=value, source=source)
    return Reject(source=source, reason=NOT_AN_OBJECT, detail=f"found {shorten(value)}, expected {{...}}")


def shorten(value: object) -> str:
    """At most 60 characters of a value."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
