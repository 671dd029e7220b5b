"""JSON text read piece by piece: only the value in work is kept, so that an array may be larger than the memory."""

import codecs
import json
import re
from pathlib import Path
from typing import IO

from dpo.data.pair import Reject
from dpo.data.read.json_values import INVALID_UTF8, LENIENT, STRICT, reject
from dpo.errors import DataError

CHUNK = 2**20  # bytes read at a time; as many again as are waiting when a value is longer
# An error this close to the end of what is read may come from the end alone: the longest thing that is cut without
# being called "unterminated" is the escape "\ud83d\ude00".
NEAR_END = 16
BLANKS = re.compile(r"[ \t\n\r]*")


class JsonScanner:
    """A position in a stream of JSON text. Bytes that are no UTF-8 spoil the value they stand in, not the others."""

    def __init__(self, stream: IO[bytes], path: Path):
        self._stream, self._path = stream, path
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="surrogateescape")
        self._text, self._at, self._ended = "", 0, False
        self._line, self._column = 1, 1  # of the first character of `_text`

    def peek(self) -> str:
        """The next character that is not blank; "" at the end."""
        while True:
            blanks = BLANKS.match(self._text, self._at)
            self._at = blanks.end() if blanks else self._at
            if self._at < len(self._text) or self._ended:
                return self._text[self._at : self._at + 1]
            self._grow()

    def take(self, character: str) -> bool:
        """Pass over `character` if it comes next."""
        found = self.peek() == character
        self._at += found
        return found

    def expect(self, character: str) -> None:
        """Pass over `character`. Raises DataError when something else comes next."""
        if not self.take(character):
            raise self.broken(f"expected {character!r}" if character else "expected the end of the file")

    def enter(self, opening: re.Pattern[str]) -> bool:
        """Pass over what `opening` matches, if it stands here, within the piece that is read."""
        self.peek()
        found = opening.match(self._text, self._at)
        if found:
            self._at = found.end()
        return found is not None

    def value(self, source: str) -> object:
        """The value that begins here. One whose syntax is clear but that cannot be taken is a `Reject` with `source`.

        Raises:
            DataError: broken syntax. Where the next value begins is anyone's guess then.
        """
        self.peek()
        try:
            return self._decode(STRICT, source)
        except RecursionError as error:
            raise self.broken(str(error)) from error
        except ValueError as error:
            problem = self._as_broken(error)
            try:
                self._decode(LENIENT, source)
            except (ValueError, RecursionError):
                raise problem from error
            return reject(error, source)

    def broken(self, problem: str, at: int | None = None) -> DataError:
        """What is said of text that is broken at index `at` of what is read, by default here."""
        before = self._text[: self._at if at is None else at]
        line, newline = self._line + before.count("\n"), before.rfind("\n")
        column = len(before) - newline if newline >= 0 else self._column + len(before)
        return DataError(f"{self._path.resolve()} is broken JSON at line {line}, column {column}: {problem}")

    def _as_broken(self, error: ValueError) -> DataError:
        if isinstance(error, json.JSONDecodeError):
            return self.broken(error.msg, error.pos)
        return self.broken(str(error))

    def _decode(self, decoder: json.JSONDecoder, source: str) -> object:
        """Raises ValueError and RecursionError as the decoder does."""
        while True:
            try:
                value, end = decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._ended or not self._may_go_on(error):
                    raise
            else:
                if end < len(self._text) or self._ended:
                    text, self._at = self._text[self._at : end], end
                    return _undecoded(text, source) or value
            self._grow()

    def _may_go_on(self, error: json.JSONDecodeError) -> bool:
        """Whether the error may only say that the rest is not read yet."""
        return error.msg.startswith("Unterminated") or error.pos > len(self._text) - NEAR_END

    def _grow(self) -> None:
        """Forget what is used and read on."""
        used, waiting = self._text[: self._at], self._text[self._at :]
        newline = used.rfind("\n")
        self._line += used.count("\n")
        self._column = len(used) - newline if newline >= 0 else self._column + len(used)
        data = self._stream.read(max(CHUNK, len(waiting)))
        self._ended = not data
        self._text, self._at = waiting + self._decoder.decode(data, final=self._ended), 0


def _undecoded(text: str, source: str) -> Reject | None:
    """A byte that is no UTF-8 has become half a surrogate pair, which UTF-8 itself cannot hold."""
    try:
        if not text.isascii():
            text.encode("utf-8")
    except UnicodeEncodeError as error:
        byte = ord(text[error.start]) - 0xDC00
        return Reject(source=source, reason=INVALID_UTF8, detail=f"byte {byte:#x} at character {error.start + 1}")
    return None
