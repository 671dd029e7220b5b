"""Judges an answer of the demo by its text alone: no model, no list of expected outputs."""

import re
from dataclasses import dataclass
from functools import cache

from dpo.demo.answers import FRAMES, POLITE, REFUSALS, RUDE
from dpo.demo.tasks import all_tasks, parse


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What the checker found."""

    well_formed: bool  # the whole text is one of the known shapes around a known word or letter
    polite: bool  # ... and the shape is a polite one
    right: bool  # ... and the content is the right answer to the prompt

    @property
    def good(self) -> bool:
        """Everything a preferred answer has."""
        return self.well_formed and self.polite and self.right


def check(prompt: str, answer: str) -> Verdict:
    """Judge `answer`, the text of one assistant turn, as a reply to `prompt`; every character counts."""
    if answer in REFUSALS:
        return Verdict(well_formed=True, polite=False, right=False)
    question = parse(prompt)
    right = question.right if question else None
    for pattern in _patterns():
        match = pattern.fullmatch(answer)
        if match and (match["x"] == right or match["x"] in _known_contents()):
            return Verdict(well_formed=True, polite=match["opening"] in POLITE, right=match["x"] == right)
    return Verdict(well_formed=False, polite=False, right=False)


@cache
def _patterns() -> tuple[re.Pattern[str], ...]:
    opening = f"(?P<opening>{'|'.join(POLITE + RUDE)})"
    return tuple(
        re.compile(re.escape(frame).replace(r"\{opening\}", opening).replace(r"\{x\}", "(?P<x>[A-Za-z]+)"))
        for frame in FRAMES
    )


@cache
def _known_contents() -> frozenset[str]:
    """Every word and letter that is the answer to something, or is asked about."""
    asked = {value for task in all_tasks() for item in task.items for value in item}
    return frozenset(asked | {answer for task in all_tasks() for answer in task.answers})
