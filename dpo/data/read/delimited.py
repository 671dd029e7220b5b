"""Tables as text: .csv and .tsv. Every cell is text; an empty one is absent, and so is a column without a name."""

import csv
import io
from collections.abc import Iterator

from dpo.data.pair import Reject
from dpo.data.read.json_values import INVALID_UTF8
from dpo.data.read.listing import InputFile
from dpo.data.read.opened import opened
from dpo.data.read.origin import Row
from dpo.errors import DataError

INVALID_CSV = "invalid CSV"
WRONG_WIDTH = "wrong number of cells"
LARGEST_CELL = 2**31 - 1  # characters; the module's own limit is 131,072
HEAD = 2**16  # bytes of the header that are looked at


def read_delimited(file: InputFile) -> Iterator[Row | Reject]:
    """A row per record, named by the line that it begins in. Raises DataError: no header, or a quote without end."""
    csv.field_size_limit(LARGEST_CELL)
    with opened(file.path) as stream:
        separator = _separator(file)
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
        records = csv.reader(text, delimiter=separator, strict=True)
        header = _header(records, file)
        while True:
            line = records.line_num + 1
            source = f"{file.label}:{line}"
            try:
                cells = next(records, None)
            except csv.Error as error:
                if "unexpected end" in str(error):
                    message = f"the quote opened in the row at line {line} is never closed"
                    raise DataError(f"{file.path.resolve()}: {message}") from error
                yield Reject(source=source, reason=INVALID_CSV, detail=str(error))
                continue
            if cells is None:
                return
            if cells:
                yield _row(header, cells, source)


def _separator(file: InputFile) -> str:
    """The tab for .tsv; else the most frequent of the usual ones in the header."""
    if file.suffix == ".tsv":
        return "\t"
    with opened(file.path) as stream:
        head = stream.readline(HEAD)
    return max(",;\t", key=lambda sign: head.count(sign.encode()))


def _header(records: Iterator[list[str]], file: InputFile) -> list[str]:
    try:
        header = [name.strip() for name in next(records, [])]
        "".join(header).encode("utf-8")
    except (csv.Error, UnicodeEncodeError) as error:
        raise DataError(f"{file.path.resolve()}: the header cannot be read: {error}") from error
    twice = next((name for name in header if name and header.count(name) > 1), None)
    if twice:
        raise DataError(f"{file.path.resolve()} has two columns named {twice!r}: rename one")
    return header


def _row(header: list[str], cells: list[str], source: str) -> Row | Reject:
    if len(cells) != len(header):
        detail = f"{len(cells)} cells, and the header names {len(header)} columns"
        return Reject(source=source, reason=WRONG_WIDTH, detail=detail)
    for name, cell in zip(header, cells, strict=True):
        try:
            cell.isascii() or cell.encode("utf-8")
        except UnicodeEncodeError as error:
            byte = ord(cell[error.start]) - 0xDC00
            detail = f"byte {byte:#x} at character {error.start + 1} of {name}"
            return Reject(source=source, reason=INVALID_UTF8, detail=detail)
    return Row(values={name: cell or None for name, cell in zip(header, cells, strict=True) if name}, source=source)
