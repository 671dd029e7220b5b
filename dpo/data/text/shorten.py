"""A prompt without its oldest turns, for pairs that are too long: data.truncation=cut_prompt.

The system turn and the tools stay, and what remains begins with a user turn, so that the shorter conversation is one
that the template renders like any other. A raw text has no turns; its lines take their place. A conversation that was
rendered before, whose turns cannot be told, is never cut, nor are rows that bring token ids.
"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import takewhile

from dpo.data.pair import Message, Pair, Reject, TokenizedPair
from dpo.data.text.given import is_given
from dpo.data.text.limits import TokenLimits, whole_lengths
from dpo.data.text.template import is_raw, is_rendered


def shorten(
    pair: Pair,
    whole: TokenizedPair,
    limits: TokenLimits,
    tokenize: Callable[[Pair], TokenizedPair | Reject],
) -> TokenizedPair:
    """`pair` with as many of its turns as fit; `whole`, as it was tokenized, where it fits or nothing can be cut."""
    if limits.hold(whole):
        return whole
    prompts = _shorter(pair.prompt)

    @cache
    def attempt(number: int) -> TokenizedPair | Reject:
        return tokenize(replace(pair, prompt=prompts[number]))

    def fits(number: int) -> bool:
        found = attempt(number)
        return isinstance(found, TokenizedPair) and limits.hold(found)

    first = bisect_left(range(len(prompts)), True, key=fits)
    found = attempt(first) if first < len(prompts) else None
    if not isinstance(found, TokenizedPair):
        return whole
    return replace(found, cut=("prompt",), whole=whole_lengths(whole), reference=None)  # it was of the whole prompt


def _shorter(prompt: list[Message]) -> list[list[Message]]:
    """What can be left of `prompt`, the longest first."""
    if is_given(prompt) or is_rendered(prompt):
        return []
    if is_raw(prompt):
        lines = "".join(turn["content"] for turn in prompt).splitlines(keepends=True)
        rests = ("".join(lines[start:]) for start in range(1, len(lines)))
        return [[{**prompt[0], "content": rest}] for rest in rests if rest.strip()]
    system = list(takewhile(lambda turn: turn["role"] == "system", prompt))
    starts = [number for number, turn in enumerate(prompt) if turn["role"] == "user" and number > len(system)]
    return [[*system, *prompt[start:]] for start in starts]
