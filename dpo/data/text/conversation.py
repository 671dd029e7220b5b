"""One prompt under a chat template: where an answer begins and where each of its turns ends, measured by rendering."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from dpo.data.formats.messages import RowProblem
from dpo.data.pair import Message
from dpo.data.text.pieces import Encoder
from dpo.data.text.shown import require_shown, require_tools
from dpo.data.text.template import ChatTemplate, end_of_turn_span

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

    def opening(self, before: list[Message], wholes: list[str]) -> int:
        """Where the answer to `before` begins in each of `wholes`, the finished conversations: behind the generation
        header, or where finished and generated answers part. Raises RowProblem, TemplateProblem."""
        generation = self.text(before, header=True)
        if all(whole.startswith(generation) for whole in wholes):
            return len(generation)
        finished = self.text([*before, {"role": "assistant", "content": MARKER}])
        start = _common_start(generation, finished, self.encoder.added)
        if start < len(self.text(before).rstrip()):
            raise RowProblem(NO_PREFIX, "the prompt is rendered differently once an answer follows it")
        if not all(whole.startswith(generation[:start]) for whole in wholes):
            raise RowProblem(NO_PREFIX, "the prompt is rendered differently when this answer follows it")
        return start

    def turn_end(self, until: list[Message], whole: str, start: int, *, last: bool) -> tuple[int, bool]:
        """(where the assistant turn that `until` ends with, and that begins at `start`, ends in `whole`; whether a
        token of the template ends it). Raises RowProblem, TemplateProblem.

        Templates may render the last turn in their own way, with an empty thought for instance: within a longer
        conversation the turn is what of it is the end of that rendering.
        """
        text = whole if last else self.text(until)
        closing = self._closing(text)
        if closing is None and last:
            return len(text) - len(self._tail()) + len(self._tail().rstrip()), False
        if closing is None:
            raise RowProblem(NO_END, "so that an answer of several messages would not show where its turns end")
        end, token = closing
        if last:
            return end, True
        found = whole.find(token, start)
        if found < 0 or not text[:end].endswith(whole[start : found + len(token)]):
            number = len(until) - len(self.prompt)
            raise RowProblem(CHANGED, f"its turn {number} is not rendered as it is where it comes last")
        return found + len(token), True

    def _closing(self, text: str) -> tuple[int, str] | None:
        """(end, text) of the token that ends the last turn of `text`; None where the template puts none there."""
        bare = text.rstrip()
        token = next((token for token in self.encoder.spelling.tokens if bare.endswith(token)), None)
        if token is not None:
            return len(bare), token
        tail = self._tail()
        span = end_of_turn_span(tail, self.encoder.added)
        if not text.endswith(tail):
            raise RowProblem(CHANGED, "the rendered text does not end as other answers do")
        return (len(text) - len(tail) + span[1], tail[span[0] : span[1]]) if span else None

    def _tail(self) -> str:
        """What the template puts behind an answer to this prompt."""
        text = self.text([*self.prompt, {"role": "assistant", "content": MARKER}])
        _, found, tail = text.rpartition(MARKER)
        if not found:
            raise RowProblem(CHANGED, "the answer is not in the rendered text")
        return tail


def _common_start(generation: str, whole: str, added: list[str]) -> int:
    """Length of the common beginning of two texts, not ending within a control token of either."""
    pairs = enumerate(zip(generation, whole, strict=False))
    length = next((i for i, (mine, theirs) in pairs if mine != theirs), min(len(generation), len(whole)))
    for token in added:
        for text in (generation, whole):
            at = text.find(token, max(0, length - len(token) + 1))
            if 0 <= at < length < at + len(token):
                length = at
    return length
