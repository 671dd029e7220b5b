"""JSON lines: one object per line."""

import json
from collections.abc import Iterator

from dpo.data.pair import Reject
from dpo.data.read.json_values import INVALID_UTF8, STRICT, as_row, reject
from dpo.data.read.listing import InputFile
from dpo.data.read.opened import opened
from dpo.data.read.origin import Row


def read_lines(file: InputFile) -> Iterator[Row | Reject]:
    """A row per line; blank lines are no rows. Raises DataError."""
    with opened(file.path) as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                yield _parse(line, f"{file.label}:{number}")


def _parse(line: bytes, source: str) -> Row | Reject:
    try:
        return as_row(STRICT.decode(line.decode("utf-8-sig")), source)
    except UnicodeDecodeError as error:
        detail = f"byte {error.start + 1} of the line: {error.reason}"
        return Reject(source=source, reason=INVALID_UTF8, detail=detail)
    except (ValueError, RecursionError) as error:
        bad = reject(error, source)
        if isinstance(error, json.JSONDecodeError):  # its own words count lines within this one
            bad.detail = f"{error.msg}: character {error.pos + 1} of the line"
        if not line.endswith(b"\n"):
            bad.detail += "; the file ends in this line, which may be cut"
        return bad
