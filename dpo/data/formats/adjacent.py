"""Rows that belong together: adjacent answers to one prompt become one row with a list of them."""

from collections.abc import Iterable, Iterator

from dpo.data.formats.format import Format
from dpo.data.pair import Reject
from dpo.data.read.files import Row

MOST = 64  # rows in one list: K answers give up to K (K - 1) / 2 pairs


def joined(rows: Iterable[Row | Reject], format: Format) -> Iterator[Row | Reject]:
    """`rows` as they are, or where `format` asks for it, adjacent rows with the same prompt as one, {"prompt",
    "responses": [row, ...]}, that stands where the first of them stands. A row that cannot be read passes by."""
    if not format.joined:
        yield from rows
        return
    waiting: list[Row] = []
    for row in rows:
        if isinstance(row, Reject):
            yield row
        elif waiting and (row.values.get("prompt") != waiting[0].values.get("prompt") or len(waiting) == MOST):
            yield _join(waiting)
            waiting = [row]
        else:
            waiting.append(row)
    if waiting:
        yield _join(waiting)


def _join(rows: list[Row]) -> Row:
    first = rows[0]
    values = {"prompt": first.values.get("prompt"), "system": first.values.get("system")}
    return Row(values={**values, "responses": [row.values for row in rows]}, source=first.source)
