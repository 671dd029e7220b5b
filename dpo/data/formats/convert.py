"""Rows to pairs: recognise the format, convert every row, turn what is wrong with one into a `Reject`."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from dpo.data.formats.messages import WRONG_TYPE, RowProblem, check
from dpo.data.formats.table import Format, choose_format, columns_of
from dpo.data.pair import Pair, Reject
from dpo.data.read.files import Origin, Row, read_rows
from dpo.errors import DataError

REFERENCE_LOGPS = ("ref_chosen_logps", "ref_rejected_logps")
SAMPLE = 1000  # rows looked at to recognise the format
LOOKED_AT = 100_000  # rows until the first of them, where many cannot be read


@dataclass(kw_only=True, slots=True)
class Converted:
    """All rows of one source."""

    pairs: list[Pair]
    rejects: list[Reject]
    rows_read: int
    format: Format


def convert_rows(origin: Origin, format_setting: str, reference_logps: str = "auto") -> Converted:
    """Read `origin` whole and convert it; `reference_logps="ignore"` passes over the rows' own. Raises DataError:
    nothing there, format unknown."""
    converter, rows = choose_converter(read_rows(origin), origin, format_setting, reference_logps)
    found: Converted = Converted(pairs=[], rejects=[], rows_read=0, format=converter.format)
    for row in rows:
        found.rows_read += 1
        result = converter.pairs(row) if isinstance(row, Row) else row
        if isinstance(result, Reject):
            found.rejects.append(result)
        else:
            found.pairs += result
    return found


@dataclass(kw_only=True, slots=True)
class Converter:
    """One format, and how its rows are taken. Picklable: a pool of processes may share the work."""

    format: Format
    supplied: bool = True  # whether the rows' own reference log-probabilities are taken

    def pairs(self, row: Row) -> list[Pair] | Reject:
        """All pairs of a row, or why it gives none. Never raises."""
        found = parse_row(self.format, row, self.supplied)
        return [found] if isinstance(found, Pair) else found


def choose_converter(
    rows: Iterable[Row | Reject], origin: Origin, format_setting: str, reference_logps: str
) -> tuple[Converter, Iterable[Row | Reject]]:
    """What suits the first rows, and all of the rows from the first on. Raises DataError: nothing there, none readable,
    format unknown."""
    rows = iter(rows)
    looked: list[Row | Reject] = []
    readable: list[Row] = []
    for row in islice(rows, LOOKED_AT):
        looked.append(row)
        if isinstance(row, Row):
            readable.append(row)
        if len(readable) == SAMPLE:
            break
    if not looked:
        raise DataError(f"{origin.path} holds no rows; set {origin.setting} to a file that has some")
    if not readable:
        first = next(row for row in looked if isinstance(row, Reject))
        raise DataError(
            f"no row of {origin.path} can be read; the first, {first.source}: {first.reason}: {first.detail}"
        )
    format = choose_format(format_setting, columns_of(row.values for row in readable), origin.path)
    return Converter(format=format, supplied=reference_logps == "auto"), chain(looked, rows)


def parse_row(format: Format, row: Row, supplied: bool = True) -> Pair | Reject:
    """One row as a pair, with its own reference log-probabilities if they are wanted (`supplied`), or why it is none.
    Never raises, whatever JSON the row holds."""
    try:
        answers = format.convert(row.values)
        check(answers)
        margin = _number(row.values.get("margin"), "margin")
        reference = _reference(row.values) if supplied else None
    except RowProblem as problem:
        return Reject(source=row.source, reason=problem.reason, detail=problem.detail)
    except RecursionError:  # from showing a value nested about as deep as the JSON parser allows
        return Reject(source=row.source, reason=WRONG_TYPE, detail="a value is nested too deeply")
    return Pair(
        prompt=answers.prompt,
        chosen=answers.chosen,
        rejected=answers.rejected,
        source=row.source,
        margin=margin,
        reference=reference,
    )


def _reference(values: dict[str, Any]) -> tuple[float, float] | None:
    """The optional columns with the summed log-probability of each answer under the reference. Raises RowProblem."""
    chosen, rejected = (_number(values.get(name), name) for name in REFERENCE_LOGPS)
    if chosen is None and rejected is None:
        return None
    if chosen is None or rejected is None:
        detail = f"{' and '.join(REFERENCE_LOGPS)} belong together, {REFERENCE_LOGPS[chosen is not None]} is missing"
        raise RowProblem("half of the reference log-probabilities", detail)
    if max(chosen, rejected) > 0:
        detail = f"{chosen:g} and {rejected:g}; the log of a probability is never above 0"
        raise RowProblem("positive reference log-probability", detail)
    return chosen, rejected


def _number(value: object, name: str) -> float | None:
    """The optional column `name`. Raises RowProblem."""
    if value is None:
        return None
    try:
        number = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise RowProblem(f"{name} is not a number", f"{name} is {str(value)[:60]!r}, expected a finite number or null")
    return number
