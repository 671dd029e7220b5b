"""Properties of one answer that can be seen without reading it, as bits of one small number."""

import re
from enum import IntFlag

from dpo.data.findings.refusals import is_refusal


class Mark(IntFlag):
    """One bit each."""

    EMPTY = 1  # no words, or a placeholder for them
    REFUSAL = 2
    UNFINISHED = 4  # stops within a sentence
    LOOP = 8  # says the same again and again
    MARKDOWN = 16  # lists, headings or bold
    CODE = 32  # a fenced block of code
    LINK = 64
    HTML = 128  # tags or entities outside code


_PLACEHOLDERS = {"n/a", "none", "null", "nan", "undefined", "todo", "empty", "no response", "no answer", "no output"}
_HTML = re.compile(r"</?(?:p|br|div|span|a|td|tr|table|li|ul|img|font)\b[^<>\n]{0,200}>|&(?:nbsp|amp|lt|gt|quot|#\d+);")
_LIST_START = re.compile(r"[-*+•#>|]|\(?\w{1,2}[.)]")
_SENTENCE_END = re.compile(r"[.!?]\s")
_ADDRESS = re.compile(r"[./@]\w")
_MARKDOWN = ("**", "\n- ", "\n* ", "\n#", "\n1. ", "\n|")
_LINE_STARTS = ("- ", "* ", "# ", "## ", "### ", "1. ")
_LINKS = ("http://", "https://", "www.")
_SENTENCE_WORDS = 8  # a last line with fewer words may be a heading, a verse or an entry of a list
_LOOP_FROM, _LOOP_WORDS = 60, 100  # an answer that loops does so at its end: its last words
_LOOP_SHARE = 0.2  # of these that are different ones; prose has 0.6 and more, tables of numbers 0.3


def marks_of(said: str, words: list[str]) -> int:
    """The marks of an answer. `said`: its text; `words`: its words."""
    found = Mark(0)
    if len(words) < 3 and (not words or " ".join(words) in _PLACEHOLDERS):
        found |= Mark.EMPTY
    if is_refusal(said):
        found |= Mark.REFUSAL
    if _unfinished(said):
        found |= Mark.UNFINISHED
    end = words[-_LOOP_WORDS:]
    if len(end) >= _LOOP_FROM and len(set(end)) < _LOOP_SHARE * len(end):
        found |= Mark.LOOP
    if said.startswith(_LINE_STARTS) or any(sign in said for sign in _MARKDOWN):
        found |= Mark.MARKDOWN
    if any(sign in said for sign in _LINKS):
        found |= Mark.LINK
    if "```" in said:
        found |= Mark.CODE
    elif ("<" in said or "&" in said) and _HTML.search(said):
        found |= Mark.HTML
    return int(found)


def _unfinished(said: str) -> bool:
    """Whether a text with ended sentences ends without: in a letter or a comma, on a line of some length."""
    end = said.rstrip()
    if not end or not (end[-1].isalpha() or end[-1] == ",") or not _SENTENCE_END.search(end):
        return False
    words = end[end.rfind("\n") + 1 :].split()
    return len(words) >= _SENTENCE_WORDS and not _LIST_START.match(words[0]) and not _ADDRESS.search(words[-1])
