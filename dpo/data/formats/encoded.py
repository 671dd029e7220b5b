"""Columns that hold messages as JSON text, as tables of text (CSV) keep them."""

import json
from collections.abc import Iterable

from dpo.data.formats.messages import ROLE_KEYS
from dpo.data.formats.values import Values, from_json


def encoded_columns(rows: Iterable[Values]) -> tuple[str, ...]:
    """The columns whose texts are, in most rows of this sample, JSON with messages in it."""
    counts: dict[str, list[bool]] = {}
    for row in rows:
        for name, value in row.items():
            if isinstance(value, str):
                counts.setdefault(name, []).append(_holds_messages(value))
    return tuple(name for name, found in counts.items() if sum(found) * 2 > len(found))


def decoded(row: Values, columns: tuple[str, ...]) -> Values:
    """`row` with the content of these columns instead of its text. Raises RowProblem."""
    return {**row, **{name: from_json(row[name], name) for name in columns if name in row}} if columns else row


def _holds_messages(text: str) -> bool:
    if text.lstrip()[:1] not in ("[", "{"):
        return False
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    if isinstance(value, dict) and "messages" in value:
        value = value["messages"]
    turns = value if isinstance(value, list) else [value]
    return bool(turns) and all(isinstance(turn, dict) and set(ROLE_KEYS.split("|")) & turn.keys() for turn in turns)
