"""Control tokens spelt out in data. They are hidden while a template runs, so that the ones it writes stand out, and
shown again as the text that they are."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from dpo.data.formats.values import RowProblem

# Two of Unicode's noncharacters, which no text should hold: they are kept for use inside a program.
OPEN, CLOSE = "\ufdd0", "\ufdd1"
HIDDEN = re.compile(f"{OPEN}(\\d+){CLOSE}")
RESERVED = re.compile(f"[{OPEN}{CLOSE}]")


@dataclass(kw_only=True)
class Spelling:
    """The texts of a tokenizer's control tokens."""

    tokens: list[str]  # the longest first
    _pattern: re.Pattern[str] = field(init=False)
    _numbers: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self._pattern = re.compile(f"({'|'.join(map(re.escape, self.tokens)) or '(?!)'})")
        self._numbers = {token: number for number, token in enumerate(self.tokens)}

    def found_in(self, text: str) -> bool:
        """Whether `text` spells out a control token."""
        return self._pattern.search(text) is not None

    def tokens_in(self, text: str, start: int) -> Iterator[re.Match[str]]:
        """The control tokens in `text` from `start` on."""
        return self._pattern.finditer(text, start)

    def hide(self, value: Any) -> Any:
        """`value` (text, or lists and objects of texts) with every control token in it hidden. Raises RowProblem."""
        if isinstance(value, str):
            if RESERVED.search(value):
                raise RowProblem("invalid text", "the text holds U+FDD0 or U+FDD1, which Unicode keeps out of texts")
            return self._pattern.sub(lambda found: f"{OPEN}{self._numbers[found[0]]}{CLOSE}", value)
        if isinstance(value, dict):
            return {self.hide(key): self.hide(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.hide(item) for item in value]
        return value

    def show(self, text: str) -> str:
        """The reverse of `hide`."""
        return HIDDEN.sub(lambda found: self.tokens[int(found[1])], text)

    def split(self, text: str) -> list[tuple[str, bool]]:
        """[(part, literal), ...] of a rendered text, shown again. A stretch between two control tokens of the
        template is literal, that is tokenized without control tokens, where it spells out one itself."""
        if OPEN not in text:
            return [(text, False)] if text else []
        parts: list[tuple[str, bool]] = []
        plain = ""
        for stretch in self._pattern.split(text):
            if OPEN not in stretch:
                plain += stretch
                continue
            body = stretch.lstrip("\r\n")  # line breaks stay with the token before them, which may swallow them
            plain += stretch[: len(stretch) - len(body)]
            parts += [(plain, False)] if plain else []
            parts.append((self.show(body), True))
            plain = ""
        return [*parts, (plain, False)] if plain else parts

    def cut(self, text: str) -> list[str]:
        """`text` in parts none of which spells out a control token: each is cut behind its first character."""
        parts = []
        while found := self._pattern.search(text):
            parts.append(text[: found.start() + 1])
            text = text[found.start() + 1 :]
        return [*parts, text] if text else parts
