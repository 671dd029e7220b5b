"""Benchmark files: every text in them, with the place it stands."""

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from dpo.data.decontaminate.benchmark import Benchmark
from dpo.data.pair import Reject
from dpo.data.read.files import read_rows
from dpo.data.read.listing import InputFile, is_local, suffix_of
from dpo.data.read.opened import opened
from dpo.data.read.origin import Origin
from dpo.errors import DataError

SETTING = "data.decontaminate"


def read_benchmark(paths: Sequence[str]) -> Benchmark:
    """All texts of these files: the lines of one that ends with .txt, every text in the rows of the others, which are
    read as data.path is.

    Raises:
        DataError: no such file, one that cannot be read whole (what is left out would pass for clean), or no text.
    """
    benchmark = Benchmark(chain.from_iterable(_texts(path) for path in paths))
    if not len(benchmark):
        raise DataError(f"{SETTING}: {', '.join(paths)} hold no text of three words or more")
    return benchmark


def _texts(path: str) -> Iterator[tuple[str, str]]:
    """(place, text), one after the other."""
    file = Path(path).expanduser()
    if file.is_file() and not suffix_of(file.name):
        return _lines(InputFile(path=file, label=file.name))
    if not is_local(path):
        raise DataError(f"{SETTING}: no file {path}; benchmarks are read from files of this machine")
    return _cells(Origin(path=path, setting=SETTING, split="test", split_setting=SETTING))


def _lines(file: InputFile) -> Iterator[tuple[str, str]]:
    with opened(file.path) as stream:
        for number, line in enumerate(stream, start=1):
            try:
                yield f"{file.label}:{number}", line.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                raise DataError(f"{file.path.resolve()}, line {number}, is not UTF-8 text: {error.reason}") from error


def _cells(origin: Origin) -> Iterator[tuple[str, str]]:
    for row in read_rows(origin):
        if isinstance(row, Reject):
            raise DataError(f"{SETTING}: {row.source}: {row.reason}: {row.detail}")
        waiting: list[tuple[str, object]] = [(f"{row.source} {name}", value) for name, value in row.values.items()]
        while waiting:
            place, value = waiting.pop()
            if isinstance(value, str):
                yield place, value
            elif isinstance(value, dict):
                waiting += [(f"{place}.{name}", inner) for name, inner in value.items()]
            elif isinstance(value, list):
                waiting += [(f"{place}[{i}]", inner) for i, inner in enumerate(value)]
