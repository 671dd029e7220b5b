"""What a format is, and which columns and rows have it."""

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from dpo.data.formats.judgement import Judgement
from dpo.data.formats.settings import FormatSettings
from dpo.data.formats.values import Values, pick

Columns = Mapping[str, str]
"""Column name -> kind of its values: "text", "list", "object", "number", "true/false" or "other"; columns that are
always null are left out."""

TEXT, NUMBER, FLAG = ("text",), ("number", "text"), ("true/false", "number", "text")  # tables of text write numbers so
TURNS = ("list", "object")  # Arrow tables make an object of lists of a list of objects
ANSWER = ("text", "object", "list")
NAMES_SHOWN = 3  # of the other names that a column may have
KINDS = (("true/false", bool), ("text", str), ("list", list), ("object", dict), ("number", (int, float)))


@dataclass(kw_only=True, slots=True)
class Format:
    """One shape of preference data. Where a column may have several names, they are written "name|other name"."""

    name: str
    description: str  # one line
    columns: dict[str, tuple[str, ...]]  # required column -> kinds its values may have
    convert: Callable[[Values, FormatSettings], Judgement]  # raises RowProblem
    absent: tuple[str, ...] = ()  # columns that mean another format when they are there
    shape: Callable[[Values], bool] | None = None  # what a row has to look like besides; most of a sample must
    shape_says: str = ""  # the same in words, for messages
    prompt: str = ""  # column whose text is a prompt without roles; "": it has none
    uses: tuple[str, ...] = ()  # other settings that have an effect on it: "preference", "ranked_pairs"
    joined: bool = False  # adjacent rows are answers to one prompt

    def matches(self, columns: Columns, rows: Iterable[Values] = ()) -> bool:
        """Whether data with these columns, and this sample of rows, has this format."""
        if self.lacks(columns) or any(name in columns for name in self.absent):
            return False
        shape = self.shape
        if shape is None:
            return True
        seen = [shape(row) for row in rows if all(pick(row, names)[1] is not None for names in self.columns)]
        return sum(seen) * 2 > len(seen)

    def lacks(self, columns: Columns) -> list[str]:
        """What keeps `columns` from this format, one phrase per column."""
        missing = [
            f"lacks {spoken(names)}" + (f", is it {near}?" if near else "")
            for names, near in self._missing(columns).items()
        ]
        return missing + self._wrong(columns)

    def distance(self, columns: Columns) -> float:
        """Share of its columns that are neither there nor under a name like theirs."""
        strange = [names for names, near in self._missing(columns).items() if not near]
        return (len(strange) + len(self._wrong(columns))) / len(self.columns)

    def _missing(self, columns: Columns) -> dict[str, str]:
        """Its columns that are not there -> one with a similar name, "" where none has."""
        absent = [names for names in self.columns if not any(name in columns for name in names.split("|"))]
        near = [difflib.get_close_matches(names.split("|")[0], columns, n=1, cutoff=0.75) for names in absent]
        return {names: found[0] if found else "" for names, found in zip(absent, near, strict=True)}

    def _wrong(self, columns: Columns) -> list[str]:
        there = [
            (next((n for n in names.split("|") if n in columns), ""), kinds) for names, kinds in self.columns.items()
        ]
        return [
            f"{name} is {columns[name]}, expected {' or '.join(kinds)}"
            for name, kinds in there
            if name and columns[name] not in kinds
        ]


def spoken(names: str) -> str:
    """ "a|b|c" in words, for messages: a (or b, c)."""
    first, *others = names.split("|")
    shown = ", ".join(others[:NAMES_SHOWN]) + (", ..." if len(others) > NAMES_SHOWN else "")
    return f"{first} (or {shown})" if others else first


def columns_of(rows: Iterable[Values]) -> dict[str, str]:
    """Every column with the most common kind of its values: a few bad rows do not hide the format."""
    kinds: dict[str, Counter[str]] = {}
    for row in rows:
        for name, value in row.items():
            if value is not None:
                kinds.setdefault(name, Counter())[_kind(value)] += 1
    return {name: counts.most_common(1)[0][0] for name, counts in kinds.items()}


def _kind(value: object) -> str:
    return next((kind for kind, types in KINDS if isinstance(value, types)), "other")
