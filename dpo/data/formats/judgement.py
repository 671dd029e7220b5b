"""What a row says: answers to one prompt, and which of them are better."""

from dataclasses import dataclass, field
from typing import Any

from dpo.data.formats.messages import no_answer
from dpo.data.formats.prompts import ENDS
from dpo.data.formats.values import RowProblem, shorten
from dpo.data.pair import Message

PAIR = "pair"  # the first answer is preferred to the second
LIST = "list"  # any number of answers, ordered by nothing but their scores
SINGLE = "single"  # unpaired: the first answer is good, or the second is bad; the other has no turns


@dataclass(kw_only=True, slots=True)
class Answer:
    """One answer, and what its judges gave it."""

    turns: list[Message]
    score: float | None = None  # higher is better, in the data's own unit
    dimensions: dict[str, float] = field(default_factory=dict)  # the same per quality, such as helpfulness

    @property
    def is_blank(self) -> bool:
        last = self.turns[-1] if self.turns else {"content": ""}
        return not (last["content"].strip() or last.get("tool_calls") or last.get("ids"))


@dataclass(kw_only=True, slots=True)
class Judgement:
    """What every format makes of a row."""

    prompt: list[Message]
    answers: list[Answer]
    kind: str = PAIR
    margin: float | None = None  # how much better the preferred one is; None: the difference of the scores, if any
    tools: list[dict[str, Any]] | None = None


def check_prompt(prompt: list[Message]) -> None:
    """Raises RowProblem: it is blank, or no answer can follow it."""
    if not prompt or not (prompt[-1]["content"].strip() or prompt[-1].get("ids")):
        raise RowProblem(
            "empty prompt", "the prompt has no text in its last turn" if prompt else "the prompt has no turns"
        )
    if prompt[-1]["role"] not in ENDS:
        raise RowProblem(
            "prompt does not end with a user turn", f"its last turn is {prompt[-1]['role']}, expected user"
        )
    for before, turn in zip([None, *prompt], prompt, strict=False):
        if turn["role"] == "tool" and (before is None or before["role"] not in ("assistant", "tool")):
            raise RowProblem("tool turn without a call", "a tool turn follows no assistant turn")


def check_answer(answer: Answer, name: str) -> None:
    """Raises RowProblem: it is absent or blank, or its first or last turn is no assistant's."""
    if not answer.turns:
        raise RowProblem(no_answer(name), f"{name} holds nothing after the prompt")
    for turn in (answer.turns[0], answer.turns[-1]):
        if turn["role"] not in ("assistant", "tokens"):
            raise RowProblem("answer is not an assistant turn", f"{name} has a turn of role {turn['role']}")
    if answer.is_blank:
        raise RowProblem("empty answer", f"{name} is blank")
    if answer.turns[-1].get("scored") is False:
        raise RowProblem("answer has no weight", f"the last turn of {name} has a loss weight of 0")


def check_difference(chosen: Answer, rejected: Answer) -> None:
    if chosen.turns == rejected.turns:
        last = chosen.turns[-1]
        raise RowProblem("chosen equals rejected", f"both are {shorten(last['content'] or last)}")
