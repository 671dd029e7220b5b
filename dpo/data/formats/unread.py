"""Columns that nothing asks for: told in the log, since one of them may hold what the user takes for granted."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from dpo.data.formats.adjacent import joined
from dpo.data.formats.format import Format
from dpo.data.formats.values import Values
from dpo.data.pair import Reject
from dpo.data.read.origin import Row

MOST = 8  # names in the log


class Watched(dict[str, Any]):
    """A row that remembers which of its columns were asked for."""

    def __init__(self, values: Values):
        super().__init__(values)
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.asked.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)

    def __iter__(self) -> Iterator[str]:  # with a method of its own for it, {**row} asks for each column
        return super().__iter__()


def unread_columns(format: Format, rows: Sequence[Values], convert: Callable[[Row], object]) -> list[str]:
    """Columns with values that `convert` asks for in none of `rows`, in their order; none where no row is a pair, since
    a bad row is left at its first fault."""
    watched = [Watched(values) for values in rows]
    read = joined((Row(values=values, source="") for values in watched), format)
    results = [row if isinstance(row, Reject) else convert(row) for row in read]
    if all(isinstance(result, Reject) for result in results):
        return []
    asked = set[str]().union(*(values.asked for values in watched))
    return [name for name in _with_values(rows) if name not in asked]


def unread_note(names: list[str]) -> list[str]:
    """For the log: nothing where all columns are read."""
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return [f"columns not read: {', '.join(names[:MOST])}{more}"] if names else []


def _with_values(rows: Iterable[Values]) -> dict[str, None]:
    return dict.fromkeys(name for row in rows for name, value in row.items() if value is not None)
