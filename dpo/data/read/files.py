"""Rows of preference data, each with the place it stands: from files or a hub data set."""

from collections.abc import Callable, Iterator
from itertools import chain, islice

from dpo.data.pair import Reject
from dpo.data.read import hub
from dpo.data.read.delimited import read_delimited
from dpo.data.read.document import read_json
from dpo.data.read.listing import KNOWN, InputFile, input_files, is_local
from dpo.data.read.origin import Origin, Row
from dpo.data.read.tables import read_arrow, read_parquet
from dpo.errors import DataError

READERS: dict[str, Callable[[InputFile], Iterator[Row | Reject]]] = {
    ".jsonl": read_json,
    ".ndjson": read_json,
    ".json": read_json,
    ".csv": read_delimited,
    ".tsv": read_delimited,
    ".parquet": read_parquet,
    ".arrow": read_arrow,
    ".feather": read_arrow,
}


def read_rows(origin: Origin) -> Iterator[Row | Reject]:
    """The rows of `origin` in file order, read as they are asked for; a row that cannot be read is a `Reject`.

    Raises:
        DataError: nothing is there, or a file is damaged as a whole; the rows before the damage have been given.
    """
    rows = _file_rows(origin) if is_local(origin.path) else _hub_rows(origin)
    return islice(rows, origin.limit)


def _file_rows(origin: Origin) -> Iterator[Row | Reject]:
    files = input_files(origin)
    unknown = next((file for file in files if not file.suffix), None)
    if unknown:
        raise DataError(f"{unknown.path.resolve()} is no {KNOWN} file; rename it or change {origin.setting}")
    return chain.from_iterable(READERS[file.suffix](file) for file in files)


def _hub_rows(origin: Origin) -> Iterator[Row | Reject]:
    where = f"{origin.where}:{origin.split}"
    return (Row(values=row, source=f"{where}:row {n}") for n, row in enumerate(hub.load(origin), start=1))
