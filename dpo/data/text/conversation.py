"""One prompt under a chat template: where an answer begins and where each of its turns ends, measured by rendering."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from dpo.data.formats.values import RowProblem
from dpo.data.pair import Message
from dpo.data.text.pieces import Encoder
from dpo.data.text.shown import require_shown, require_tools
from dpo.data.text.template import ChatTemplate, common_length, end_of_turn_span

MARKER = "zqxanswerqxz"  # stands for an answer while a template is measured; no blank or mark that templates look at
KEPT = 32  # texts of one prompt that are at hand: enough for the pairs of a ranked list of eight answers
NO_PREFIX = "template does not keep the prompt as a prefix"
CHANGED = "template changes the answer"
NO_END = "template ends no turn with a token"


@dataclass(kw_only=True)
class Conversation:
    """A prompt, its control tokens hidden (`Spelling.hide`), and what follows it. All texts are hidden texts."""

    prompt: list[Message]
    tools: list[dict[str, Any]] | None
    template: ChatTemplate
    encoder: Encoder
    _rendered: deque[tuple[list[Message], bool, str]] = field(default_factory=lambda: deque(maxlen=KEPT))

    def text(self, messages: list[Message], *, header: bool = False) -> str:
        """`messages` rendered; `header`: with what opens an answer. The latest are kept. Raises TemplateProblem."""
        for known, its_header, text in self._rendered:
            if its_header == header and known == messages:
                return text
        text = self.template.render(self.encoder.tokenizer, messages, header=header, tools=self.tools)
        self._rendered.append((messages, header, text))
        return text

    def require_whole_prompt(self) -> None:
        """Raises RowProblem where the template leaves something of the prompt or the tools out, TemplateProblem."""
        text = self.text(self.prompt, header=True)
        require_shown(self.prompt, text, "the prompt")
        require_tools(self.tools, text)

    def require_turn(self, turn: Message, before: list[Message], text: str, start: int) -> None:
        """Raises RowProblem where the template leaves something of an assistant turn out of `text`, which it ends and
        where it begins at `start`, TemplateProblem. A thought may begin in the generation header."""
        try:
            require_shown([turn], text[start:], "the answer")
        except RowProblem:
            opened = len(self.text(before).rstrip())
            if opened >= start:
                raise
            require_shown([turn], text[opened:], "the answer")

    def opening(self, before: list[Message], answers: list[list[Message]]) -> int:
        """Where each of `answers` begins in the conversation of `before` and that answer: behind the generation
        header, or where finished and generated answers part. Raises RowProblem, TemplateProblem."""
        generation = self.text(before, header=True)
        wholes = [self.text([*before, *answer]) for answer in answers]
        if all(whole.startswith(generation) for whole in wholes):
            return len(generation)
        marked = (self.text([*before, _marked(first), *rest]) for first, *rest in answers)
        start = min(_common_start(generation, text, self.encoder.added) for text in marked)
        if start < len(self.text(before).rstrip()):
            raise RowProblem(NO_PREFIX, "the prompt is rendered differently once an answer follows it")
        if not all(whole.startswith(generation[:start]) for whole in wholes):
            raise RowProblem(NO_PREFIX, "the prompt is rendered differently when this answer follows it")
        return start

    def last_end(self, whole: str) -> tuple[int, bool]:
        """(where the last turn of `whole` ends; whether a token of the template ends it). Raises RowProblem,
        TemplateProblem."""
        if self._closing(whole)[1]:
            return len(whole.rstrip()), True
        tail = self._tail()
        if not whole.endswith(tail):
            raise RowProblem(CHANGED, "the rendered text does not end as other answers do")
        begin = len(whole) - len(tail)
        span = end_of_turn_span(tail, self.encoder.added)  # text stands behind the token, or it is not a special one
        return (begin + span[1], True) if span else (begin + len(tail.rstrip()), False)

    def inner_end(self, until: list[Message], whole: str, start: int) -> int:
        """Where the assistant turn that `until` ends with, and that begins at `start`, ends in `whole`, where others
        follow it. Raises RowProblem, TemplateProblem.

        Templates may render a last turn in their own way: with an empty thought, or another token at its end. Within a
        longer conversation the turn is what of it also ends that rendering, with the tokens that end both, or with the
        one that follows: some templates close no turn, so that it is the token which opens the next.
        """
        text = self.text(until)
        size, closing = self._closing(text)
        said = [
            (whole[start : token.start()].rstrip(), token) for token in self.encoder.spelling.tokens_in(whole, start)
        ]
        found = [token for part, token in said if part and text[start:size].endswith(part)]
        if not said:
            raise RowProblem(NO_END, "so that an answer of several messages does not show where its turns end")
        if not found or text[:start] != whole[:start]:
            number = len(until) - len(self.prompt)
            raise RowProblem(CHANGED, f"its turn {number} is not rendered as it is where it comes last")
        at = found[-1].start()
        for token in closing:
            if not whole[at:].lstrip().startswith(token):
                break
            at = whole.index(token, at) + len(token)
        return max(at, found[-1].end())

    def _closing(self, text: str) -> tuple[int, list[str]]:
        """(length of `text` without the tokens at its end and the blanks around them; these tokens)"""
        size, closing, tokens = len(text.rstrip()), list[str](), self.encoder.spelling.tokens
        while text.endswith(tuple(tokens), 0, size):
            token = next(token for token in tokens if text.endswith(token, 0, size))
            size = len(text[: size - len(token)].rstrip())
            closing.insert(0, token)
        return size, closing

    def _tail(self) -> str:
        """What the template puts behind an answer to this prompt."""
        text = self.text([*self.prompt, {"role": "assistant", "content": MARKER}])
        _, found, tail = text.rpartition(MARKER)
        if not found:
            raise RowProblem(CHANGED, "the answer is not in the rendered text")
        return tail


def _marked(turn: Message) -> Message:
    """`turn` saying MARKER, behind its thought if it has one: that may begin in the generation header."""
    thought = "".join(turn["content"].rpartition("</think>")[:2])
    return {**turn, "content": thought + MARKER}


def _common_start(generation: str, whole: str, added: list[str]) -> int:
    """Length of the common beginning of two texts, not ending within a control token of either."""
    length = common_length(generation, whole)
    for token in added:
        for text in (generation, whole):
            at = text.find(token, max(0, length - len(token) + 1))
            if 0 <= at < length < at + len(token):
                length = at
    return length
