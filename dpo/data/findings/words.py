"""Text as words, without what only formats it: case, blanks, punctuation, Markdown."""

import re
from hashlib import blake2b

from dpo.data.findings.languages import STOP_WORDS

# Numbers and formulas keep what gives them their meaning: + - / = < > % $ ^ & and digits.
_BLANKS = '.,;:!?"()[]{}*_#`~|、。，！？；：「」『』（）【】《》·'  # noqa: RUF001
_TABLE = str.maketrans(dict.fromkeys(_BLANKS, " ") | dict.fromkeys("'\\"))  # don't = dont, \_ = _
# Replaced before: with a sign beyond ASCII left in it, `translate` takes ten times as long.
_TYPOGRAPHIC = (("’", "'"), ("‘", "'"), ("“", " "), ("”", " "), ("–", "-"), ("—", " "), ("…", " "), ("•", " "))  # noqa: RUF001
# Where one of these stands, punctuation is part of what is said: a[1:] is not a[:1], n! is not n.
_EXACT = re.compile(r"```|[!=]=|\[[^\]\n]*:|\d!|[;{}]\s*$|^\s*(?:def|class|return|import|SELECT)\b", re.MULTILINE)

CONTENT_LETTERS = 4  # shorter words say little about a topic
STEM = 6  # letters of a word that are looked for: "optimise" finds "optimisation"
MOST_STEMS = 32  # of a prompt, its last ones: a question stands at the end of what it is about
MOST_PAIRS = 96  # of neighbouring characters, where words are not set apart
_COMMON = (
    "about above after again also another answer because been before being below between both could does doing down "
    "during each explain following from give given have having here into just know like list make many more most much "
    "need only other over please provide question should some such tell than that their them then there these they "
    "this those through under until using very want were what when where which while will with would write your"
)
_STOP = frozenset(_COMMON.split()).union(*STOP_WORDS)


def words_of(text: str) -> list[str]:
    """The words of `text` in order, lower case."""
    text = text.lower()
    if not text.isascii():
        for sign, plain in _TYPOGRAPHIC:
            text = text.replace(sign, plain)
    return text.translate(_TABLE).replace("- ", " ").split()


def same_but_formatting(one: str, other: str) -> bool:
    """Whether two texts with the same words differ in formatting alone; in code only blanks are formatting."""
    return not (_EXACT.search(one) or _EXACT.search(other)) or one.split() == other.split()


def stems(words: list[str], spaced: bool) -> list[str]:
    """What a prompt of these words is about, as beginnings of words to look for in an answer.

    Languages written without blanks (`spaced=False`) have no words here: pairs of neighbouring characters instead.
    """
    if not spaced:
        text = "".join(words)
        return list(dict.fromkeys(text[i : i + 2] for i in range(len(text) - 2, -1, -1)))[:MOST_PAIRS]
    found = (word[:STEM] for word in reversed(words) if len(word) >= CONTENT_LETTERS and word not in _STOP)
    return list(dict.fromkeys(found))[:MOST_STEMS]


def digest(text: str, size: int = 8) -> int:
    """A number of `size` bytes that stands for `text`, the same in every process."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).digest(), "little")
