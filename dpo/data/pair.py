"""The values that preference data passes through: a `Pair` of messages, then a `TokenizedPair` of token ids."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

Message = dict[str, Any]
"""One turn as chat templates read it: {"role": "system" | "user" | "assistant" | "tool", "content": text}. An assistant
turn may hold "tool_calls" (list of {"type": "function", "function": {"name", "arguments": object}}) and
"reasoning_content" (text) too, a tool turn "name" and "tool_call_id". One inside an answer with "scored": False is
context, as its loss weight of 0 in the data says."""

Spans = tuple[tuple[int, int], ...]
"""[(start, end), ...) of tokens, in order, apart from each other."""


@dataclass(kw_only=True, slots=True)
class Pair:
    """One human (or AI) judgement: two answers to one prompt, the first preferred.

    An answer of several messages begins and ends with an assistant turn; the tool and user turns between are context.
    An unpaired row, one answer that is good or bad, has an empty list in the place of the other.
    A pair whose `prompt` is a single message of role "raw" holds plain text: no chat template is applied to it. With
    "rendered": True the text came out of one before, and what it and the answers spell out are control tokens. One
    whose prompt and answers are single messages {"role": "tokens", "ids": [...]} holds token ids as the row gives them.
    """

    prompt: list[Message]  # ends with a user (or raw) turn
    chosen: list[Message]  # the preferred answer, usually one assistant turn
    rejected: list[Message]
    source: str  # where the row stands: "file.jsonl:17" (line) or "hub/name:train:17" (row)
    dataset: str = ""  # name of the source it came from, for mixing and for metrics per source
    tools: list[dict[str, Any]] | None = None  # JSON schemas of the functions that the prompt offers
    template_arguments: dict[str, Any] | None = None  # for the chat template, besides model.chat_template_arguments
    margin: float | None = None  # how much better `chosen` is, in the data's own unit
    reference: tuple[float, float] | None = None  # log-probabilities of chosen and rejected that the row itself brings
    remarks: tuple[str, ...] = ()  # what is worth counting about it, in fixed words: "scores tie"
    id: str = field(default="")  # content hash; the same text has the same id whatever file it came from

    def __post_init__(self) -> None:
        if not self.id:
            self.id = content_hash([*self._context, self.chosen, self.rejected])

    @property
    def prompt_hash(self) -> str:
        """Hash of the prompt alone, as hexadecimal: decides on which side of the held-out split the pair falls."""
        return content_hash(self._context if self.tools or self.template_arguments else self.prompt)

    @property
    def _context(self) -> list[Any]:
        """What both answers see."""
        parts = [self.prompt] if self.tools is None else [self.prompt, self.tools]
        return [*parts, self.template_arguments] if self.template_arguments else parts


@dataclass(kw_only=True, slots=True)
class TokenizedPair:
    """A pair as token ids. `prompt + chosen` and `prompt + rejected` are what the model reads; an absent answer of an
    unpaired row is an empty list."""

    prompt_ids: list[int]  # [p] including everything up to the answer's first token (BOS, generation header)
    chosen_ids: list[int]  # [c] ends with the end-of-turn token unless it was cut
    rejected_ids: list[int]  # [r]
    chosen_context: Spans = ()  # of `chosen_ids`: tool and user turns inside the answer, which are not scored
    rejected_context: Spans = ()
    cut: tuple[str, ...] = ()  # which parts were shortened to fit: "prompt", "chosen", "rejected"
    whole: tuple[int, int, int] | None = None  # tokens of prompt, chosen and rejected before; None: nothing was cut
    source: str
    dataset: str = ""  # as in `Pair`
    id: str
    margin: float | None = None
    reference: tuple[float, float] | None = None  # as in `Pair`; None where anything was cut


@dataclass(kw_only=True, slots=True)
class Reject:
    """A row that cannot be trained on: where it stands and why."""

    source: str  # "file.jsonl:17"
    reason: str  # one of the fixed reasons, for counting: "empty answer"
    detail: str  # one sentence with what was found


@dataclass(kw_only=True, slots=True)
class Dropped(Reject):
    """A sound row that gives no pair, such as a tie: left out on purpose, never an error."""


def content_hash(value: object) -> str:
    """16 hexadecimal digits of SHA-256 over the JSON form of `value`."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
