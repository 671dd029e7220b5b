"""Rows of preference data, each with the place it stands: from a file, a folder of files or a hub data set."""

import difflib
import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, cast

from dpo.data.pair import Reject
from dpo.data.read import hub
from dpo.errors import DataError

JSON_SUFFIXES = (".json", ".json.gz")
LINE_SUFFIXES = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
SUFFIXES = (*JSON_SUFFIXES, *LINE_SUFFIXES, ".parquet")
NOT_AN_OBJECT = "row is not an object"


@dataclass(kw_only=True, slots=True)
class Origin:
    """Where rows come from, and the settings that errors name."""

    path: str  # file, folder or hub name
    split: str = "train"  # of a hub data set
    revision: str | None = None  # of a hub data set
    limit: int | None = None  # only the first rows
    setting: str = "data.path"  # the setting that holds `path`
    split_setting: str = "data.split"


@dataclass(kw_only=True, slots=True)
class Row:
    """One row before it is understood."""

    values: dict[str, Any]  # column -> value
    source: str  # "file.jsonl:17", "file.json:row 17" or "hub/name:train:row 17"; counting from 1


def read_rows(origin: Origin) -> Iterator[Row | Reject]:
    """The rows of `origin` in file order; a row that cannot be read is a `Reject`. Raises DataError."""
    rows = _file_rows(origin) if is_local(origin.path) else _hub_rows(origin)
    return islice(rows, origin.limit)


def is_local(path: str) -> bool:
    """Whether `path` means a file or folder rather than a hub name such as "owner/name"."""
    looks_like_path = path.startswith(("/", "./", "../", "~")) or path.count("/") > 1
    return looks_like_path or path.lower().endswith(SUFFIXES) or Path(path).exists()


def _hub_rows(origin: Origin) -> Iterator[Row | Reject]:
    values = hub.load(origin.path, origin.split, origin.revision, (origin.setting, origin.split_setting))
    where = f"{origin.path}:{origin.split}"
    return (Row(values=row, source=f"{where}:row {n}") for n, row in enumerate(values, start=1))


def local_files(origin: Origin) -> list[Path]:
    """The files that a local `origin` means, in the order in which they are read. Raises DataError: there is none."""
    path = Path(origin.path).expanduser()
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.is_file() and p.name.lower().endswith(SUFFIXES))
        if not files:
            raise DataError(f"the folder {path.resolve()} holds no {_known_suffixes()} file; set {origin.setting}")
        return files
    if not path.is_file():
        raise DataError(_missing(path, origin.setting))
    return [path]


def _file_rows(origin: Origin) -> Iterator[Row | Reject]:
    return chain.from_iterable(_rows_of(file, origin.setting) for file in local_files(origin))


def _rows_of(path: Path, setting: str) -> Iterator[Row | Reject]:
    name = path.name.lower()
    if name.endswith(LINE_SUFFIXES):
        return _read_lines(path)
    if name.endswith(JSON_SUFFIXES):
        return _read_json(path)
    if name.endswith(".parquet"):
        return _read_parquet(path)
    raise DataError(f"{path.resolve()} is no {_known_suffixes()} file; rename it or change {setting}")


def _known_suffixes() -> str:
    return ", ".join(SUFFIXES[:-1]) + f" or {SUFFIXES[-1]}"


def _missing(path: Path, setting: str) -> str:
    """What the message for a missing file says, with the names in its folder that are close to it."""
    message = f"no file {path} (looked for {path.resolve()}); set {setting} to an existing file"
    folder = path.resolve().parent
    if not folder.is_dir():
        return f"{message}. The folder {folder} does not exist either"
    near = difflib.get_close_matches(path.name, [p.name for p in folder.iterdir()], n=3)
    return f"{message}. In that folder there is: {', '.join(near)}" if near else message


def _open(path: Path) -> IO[bytes]:
    if path.name.lower().endswith(".gz"):
        return cast(IO[bytes], gzip.open(path, "rb"))
    return path.open("rb")


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"{path.resolve()} cannot be read: {error or type(error).__name__}")


def _read_lines(path: Path) -> Iterator[Row | Reject]:
    """One JSON object per line; blank lines are no rows."""
    try:
        with _open(path) as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _parse_line(line, f"{path.name}:{number}")
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, error) from error


def _parse_line(line: bytes, source: str) -> Row | Reject:
    try:
        value = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return Reject(
            source=source, reason="invalid UTF-8", detail=f"byte {error.start + 1} of the line: {error.reason}"
        )
    except (ValueError, RecursionError) as error:  # ValueError: also numbers of more than 4300 digits
        return Reject(source=source, reason="invalid JSON", detail=str(error))
    return _row(value, source)


def _row(value: object, source: str) -> Row | Reject:
    if isinstance(value, dict):
        return Row(values=value, source=source)
    return Reject(source=source, reason=NOT_AN_OBJECT, detail=f"found {_shorten(value)}, expected {{...}}")


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _read_json(path: Path) -> Iterator[Row | Reject]:
    """An array of objects, alone or as {"data": [...]}; a file of one object per line is taken as such."""
    try:
        with _open(path) as file:
            text = file.read().decode("utf-8-sig")
        value = json.loads(text)
    except UnicodeDecodeError as error:
        raise DataError(f"{path.resolve()} is not UTF-8 text: byte {error.start + 1}: {error.reason}") from error
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and text.lstrip().startswith("{"):
            yield from _read_lines(path)
            return
        where = f"line {error.lineno}, column {error.colno}"
        raise DataError(f"{path.resolve()} is broken JSON at {where}: {error.msg}") from error
    except (ValueError, RecursionError, OSError, EOFError, zlib.error) as error:
        raise _damaged(path, error) from error
    for number, row in enumerate(_array(value, path), start=1):
        yield _row(row, f"{path.name}:row {number}")


def _array(value: object, path: Path) -> list[object]:
    rows = value.get("data") if isinstance(value, dict) else value
    if isinstance(rows, list):
        return rows
    raise DataError(f'{path.resolve()} holds {_shorten(value)}; expected [{{...}}, ...] or {{"data": [{{...}}, ...]}}')


def _read_parquet(path: Path) -> Iterator[Row | Reject]:
    import pyarrow as pa  # 0.3 s to import, for one kind of file only
    import pyarrow.parquet as pq

    number = 0
    try:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=1024):
            for values in batch.to_pylist():
                number += 1
                yield Row(values=values, source=f"{path.name}:row {number}")
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _damaged(path, error) from error
