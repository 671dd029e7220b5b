"""Arrow record batches to rows, a bounded part of a batch at a time."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from dpo.data.pair import Reject
from dpo.data.read.json_values import INVALID_UTF8
from dpo.data.read.listing import InputFile
from dpo.data.read.origin import Row
from dpo.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

MOST_ROWS = 1024  # converted at once
MOST_BYTES = 2**26  # and their size in memory; one row may be larger
DAMAGED_CELL = "damaged cell"
# What damaged values raise: Arrow's own errors are among these; ArithmeticError: dates; MemoryError: a length of 2**60.
UNREADABLE = (ValueError, OSError, ArithmeticError, LookupError, TypeError, MemoryError, NotImplementedError)


def rows_of(batches: Iterable["pa.RecordBatch"], file: InputFile) -> Iterator[Row | Reject]:
    """The rows of all batches; one with a value that cannot be converted is a `Reject`. Raises DataError."""
    number = 0
    for batch in batches:
        names = batch.schema.names
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise DataError(f"{file.path.resolve()} has two columns named {twice!r}: rename one")
        for part in _parts(batch):
            for found in _values(part):
                number += 1
                source = f"{file.label}:row {number}"
                if isinstance(found, dict):
                    yield Row(values=found, source=source)
                else:
                    yield _reject(found, source)


def batch_rows(n_bytes: int, n_rows: int) -> int:
    """How many rows of this mean size are converted at once."""
    return max(1, min(MOST_ROWS, MOST_BYTES * n_rows // max(1, n_bytes)))


def _parts(batch: "pa.RecordBatch") -> Iterator["pa.RecordBatch"]:
    batch.validate()  # before anything follows an offset of a damaged file out of its memory, `nbytes` included
    step = batch_rows(batch.nbytes, batch.num_rows)
    return (batch.slice(start, step) for start in range(0, batch.num_rows, step))


def _values(part: "pa.RecordBatch") -> list[dict[str, Any] | Exception]:
    """Column -> value of every row; row by row when one of them spoils the whole."""
    try:
        return _convert(part)
    except UNREADABLE as error:
        if part.num_rows == 1:
            return [error]
    return [found for row in range(part.num_rows) for found in _values(part.slice(row, 1))]


def _convert(part: "pa.RecordBatch") -> list[dict[str, Any] | Exception]:
    part.validate(full=True)
    found: list[dict[str, Any] | Exception] = part.to_pylist()
    return found


def _reject(error: Exception, source: str) -> Reject:
    is_text = isinstance(error, UnicodeDecodeError) or "UTF8" in str(error)
    return Reject(source=source, reason=INVALID_UTF8 if is_text else DAMAGED_CELL, detail=str(error))
