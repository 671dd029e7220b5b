"""JSON documents: an array of objects, alone or as {"data": [...]}, or objects one after the other."""

import re
from collections.abc import Iterator
from itertools import count
from typing import IO

from dpo.data.pair import Reject
from dpo.data.read.json_values import STRICT, as_row, shorten
from dpo.data.read.lines import read_lines
from dpo.data.read.listing import InputFile
from dpo.data.read.opened import opened
from dpo.data.read.origin import Row
from dpo.data.read.scanner import JsonScanner
from dpo.errors import DataError

HEAD = 2**20  # bytes of a first line that are looked at
# The first line of a file that is no JSON lines whatever its name says: an array of objects, or one object per page.
DOCUMENT = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:\[\s*(?:\{|$)|\{\s*$)")
# {"version": "1.0", "data": [{...}, ...]}: what comes before the rows is passed over.
WRAPPED = re.compile(r'\{\s*(?:"[^"\\]*"\s*:\s*(?:"[^"\\]*"|[\w.+-]+)\s*,\s*)*"data"\s*:\s*\[\s*(?=[{\]])')
EXPECTED = 'expected [{...}, ...] or {"data": [{...}, ...]}'


def read_json(file: InputFile) -> Iterator[Row | Reject]:
    """The rows of a JSON file. Its content decides what it is: .json files often hold lines, .jsonl files arrays."""
    return read_lines(file) if _holds_lines(file) else read_document(file)


def read_document(file: InputFile) -> Iterator[Row | Reject]:
    """A row per object, in memory one after the other. Raises DataError where the syntax breaks: the rows before it
    are given, and nothing tells where the next one begins."""
    with opened(file.path) as stream:
        text = JsonScanner(stream, file.path)
        for number, value in enumerate(_values(text, file), start=1):
            yield value if isinstance(value, Reject) else as_row(value, f"{file.label}:row {number}")


def _holds_lines(file: InputFile) -> bool:
    with opened(file.path) as stream:
        head = _first_line(stream)
        if file.suffix != ".json":
            return DOCUMENT.match(head) is None
        return _is_object(head) and _first_line(stream) != b""


def _first_line(stream: IO[bytes]) -> bytes:
    """The next line that is not blank, or its first bytes; b"" at the end."""
    line = stream.readline(HEAD)
    while line and not line.strip():
        line = stream.readline(HEAD)
    return line


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(STRICT.decode(line.decode("utf-8-sig")), dict)
    except (ValueError, RecursionError):
        return False


def _values(text: JsonScanner, file: InputFile) -> Iterator[object]:
    if text.take("["):
        yield from _array(text, file)
    elif text.enter(WRAPPED):
        yield from _array(text, file)
        while text.take(","):  # what comes after the rows
            text.value(file.label)
            text.expect(":")
            text.value(file.label)
        text.expect("}")
    elif text.peek() == "{":
        yield from _objects(text, file)
    elif text.peek():
        raise text.broken(EXPECTED)
    text.expect("")


def _array(text: JsonScanner, file: InputFile) -> Iterator[object]:
    """The elements of the array that begins here."""
    if text.take("]"):
        return
    for number in count(1):
        yield text.value(f"{file.label}:row {number}")
        if text.take("]"):
            return
        text.expect(",")


def _objects(text: JsonScanner, file: InputFile) -> Iterator[object]:
    """Objects with nothing but blanks between them. A single one may hold the rows, or be one."""
    first = text.value(f"{file.label}:row 1")
    if text.peek() == "" and isinstance(first, dict):
        rows = first.get("data")
        if isinstance(rows, list):
            yield from rows
            return
        if len(first) < 2:  # a row has at least two columns
            raise DataError(f"{file.path.resolve()} holds {shorten(first)}; {EXPECTED}")
    yield first
    for number in count(2):
        if text.peek() == "":
            return
        yield text.value(f"{file.label}:row {number}")
