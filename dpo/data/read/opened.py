"""Files as streams of bytes, whatever they are compressed with."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from dpo.errors import DataError

DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError)  # what reading a damaged file raises
MAGIC = {b"\x1f\x8b": ".gz", b"BZh": ".bz2", b"\xfd7zXZ\x00": ".xz", b"\x28\xb5\x2f\xfd": ".zst"}
UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # byte order marks


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The content of a file of UTF-8 text, decompressed. Raises DataError for a damaged file and for UTF-16."""
    try:
        with _open(path) as stream:
            if stream.peek(2)[:2] in UTF_16:
                raise DataError(f"{path.resolve()} is UTF-16 text; expected UTF-8: save it again as UTF-8")
            yield stream
    except DAMAGE as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> DataError:
    """What is said of a file that cannot be read."""
    return DataError(f"{path.resolve()} cannot be read: {error or type(error).__name__}")


def _open(path: Path) -> Any:
    """By the name's ending; a compressed file whose name says nothing is known by its first bytes."""
    ending = path.suffix.lower()
    if ending not in OPENERS:
        with path.open("rb") as file:
            head = file.read(6)
        ending = next((known for magic, known in MAGIC.items() if head.startswith(magic)), "")
    return OPENERS[ending](path) if ending else path.open("rb")


def _open_zstd(path: Path) -> IO[bytes]:
    import pyarrow as pa  # Python has its own decompressor from 3.14 on

    return io.BufferedReader(pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"))


OPENERS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": _open_zstd,
}
