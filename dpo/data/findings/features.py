"""What the report needs to know of a pair's text, as a few small numbers: computed once, where the text is at hand."""

from dataclasses import dataclass, field, fields
from typing import Any

from dpo.data.findings.languages import UNSPACED, language_of
from dpo.data.findings.marks import marks_of
from dpo.data.findings.words import digest, same_but_formatting, stems, words_of
from dpo.data.pair import Message, Pair
from dpo.data.text.given import is_given

PROMPT_TAIL = 1000  # characters of the prompt, its last ones, in which its topic is looked for
TEMPLATE_START = 48  # characters of a user turn by which turns made from one template are recognised
OPENING_WORDS = 3  # of an answer
MOST = 2**16 - 1


def _column(dtype: str) -> Any:
    return field(default=0, metadata={"dtype": dtype})


@dataclass(kw_only=True, slots=True)
class Features:
    """Of one pair. Zeros stand for what is not there: a missing answer (unpaired rows), or no text at all.

    Keys are hashes of words: equal keys mean the same text but for formatting.
    """

    turns: int = _column("uint16")  # messages of the prompt
    prompt_start: int = _column("uint32")  # hash of how the last user turn begins; 0: too short to be a template
    prompt_stems: int = _column("uint8")  # different content words of the prompt's last turn
    chosen_key: int = _column("uint64")
    rejected_key: int = _column("uint64")
    chosen_opening: int = _column("uint32")  # hash of the first words; 0: fewer than that
    rejected_opening: int = _column("uint32")
    chosen_words: int = _column("uint16")
    rejected_words: int = _column("uint16")
    chosen_stems: int = _column("uint8")  # content words of the whole prompt that are in the answer
    rejected_stems: int = _column("uint8")
    chosen_marks: int = _column("uint8")  # bits of `Mark`
    rejected_marks: int = _column("uint8")
    prompt_language: int = _column("uint8")  # index into LANGUAGES
    chosen_language: int = _column("uint8")
    rejected_language: int = _column("uint8")
    common_words: float = _column("float32")  # different words that both answers have, as a share of all; 0 to 1
    common_start: float = _column("float32")  # characters both begin with, as a share of the shorter answer
    formatting_only: bool = _column("uint8")  # the answers differ in blanks, case, punctuation or Markdown alone


DTYPES: dict[str, str] = {f.name: f.metadata["dtype"] for f in fields(Features)}
"""Name of every feature -> numpy type of its column."""


def features(pair: Pair) -> Features:
    """The features of `pair`. Pure: the same pair gives the same numbers in every process."""
    if is_given(pair.prompt):
        return _of_tokens(pair)
    turns = [(turn["role"], _content(turn)) for turn in pair.prompt]
    tail = "\n".join(text for role, text in turns if role != "system")[-PROMPT_TAIL:]
    last = next((text.strip() for role, text in reversed(turns) if role != "assistant"), "")
    words = words_of(tail)
    language = language_of(tail, words)
    spaced = language not in UNSPACED
    wanted = stems(words, spaced)
    asked = wanted if len(last) >= len(tail) else stems(words_of(last), spaced)
    chosen, rejected = _Answer(pair.chosen, wanted), _Answer(pair.rejected, wanted)
    shared = len(chosen.distinct & rejected.distinct)
    different = len(chosen.distinct) + len(rejected.distinct) - shared
    return Features(
        turns=min(len(turns), MOST),
        prompt_start=digest(last[:TEMPLATE_START].lower(), 4) if len(last) >= TEMPLATE_START else 0,
        prompt_stems=len(asked),
        prompt_language=language,
        common_words=shared / different if different else 0.0,
        common_start=_common_start(chosen.said, rejected.said),
        formatting_only=bool(pair.chosen and pair.rejected) and _formatting_only(chosen, rejected),
        **(chosen.columns("chosen") if pair.chosen else {}),
        **(rejected.columns("rejected") if pair.rejected else {}),
    )


def _of_tokens(pair: Pair) -> Features:
    """Of rows that bring token ids: there is no text to look at."""
    chosen, rejected = (digest(str(answer[0]["ids"])) if answer else 0 for answer in (pair.chosen, pair.rejected))
    return Features(turns=1, chosen_key=chosen, rejected_key=rejected)


class _Answer:
    """One side of a pair while its features are computed."""

    def __init__(self, turns: list[Message], stems_wanted: list[str]):
        self.said = _without_thought("\n".join(_content(turn) for turn in turns if turn["role"] == "assistant"))
        extra = "".join(
            str(turn[key]) for turn in turns for key in ("reasoning_content", "tool_calls") if turn.get(key)
        )
        self.words = words_of(f"{self.said} {extra}" if extra else self.said)
        self.distinct = set(self.words)
        lower = self.said.lower()
        self.stems = sum(stem in lower for stem in stems_wanted)

    def columns(self, side: str) -> dict[str, Any]:
        words = self.words
        language = language_of(self.said, words)
        values = {
            "key": digest(" ".join(words)),
            "opening": digest(" ".join(words[:OPENING_WORDS]), 4) if len(words) >= OPENING_WORDS else 0,
            "words": min(len(words) if language not in UNSPACED else len(self.said) // 2, MOST),
            "stems": self.stems,
            "marks": marks_of(self.said, words),
            "language": language,
        }
        return {f"{side}_{name}": value for name, value in values.items()}


def _content(turn: Message) -> str:
    """The text of a turn; "" where it has none (a turn that only calls tools)."""
    content = turn.get("content")
    return content if isinstance(content, str) else ""


def _without_thought(text: str) -> str:
    """`text` behind a thinking block that it begins with."""
    return text.partition("</think>")[2].lstrip() or text if text.startswith("<think>") else text


def _formatting_only(chosen: _Answer, rejected: _Answer) -> bool:
    return chosen.words == rejected.words and same_but_formatting(chosen.said, rejected.said)


def _common_start(one: str, other: str) -> float:
    """Length of the common beginning of two texts over that of the shorter."""
    short = min(len(one), len(other))
    if not short:
        return 0.0
    low, high = 0, short  # by halves: comparing slices is some 1,000 times faster than letter by letter
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[low:middle] == other[low:middle] else (low, middle - 1)
    return low / short
