"""Pairs made of plain sentences, with nothing wrong, for planting one fault at a time; their tokens are their words."""

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from dpo.data.findings.columns import Account
from dpo.data.findings.features import DTYPES, features
from dpo.data.findings.measure import Measured, measure
from dpo.data.pair import Pair, Reject, TokenizedPair
from dpo.data.text.limits import TokenLimits

LIMITS = TokenLimits(max_length=2048)
NAMES = [
    f"{a}{b}{c}" for a in ("bal", "cor", "dun", "fel", "gam") for b in ("ar", "en", "il", "os") for c in ("dor", "mex")
]
LINKS = ("is the reason for", "was found by the people of", "can be seen with", "has more to do with", "and not")
OPENINGS = ("Once", "In truth,", "For many years", "Nobody doubts that", "By and large,", "As far as we know,")


class Words:
    """Every word and every run of blanks is a token."""

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}
        self.texts: list[str] = []

    def encode(self, text: str) -> list[int]:
        return [self._id(part) for part in re.findall(r"\S+|\s+", text)]

    def decode(self, ids: list[int]) -> str:
        return "".join(self.texts[i] for i in ids)

    def _id(self, part: str) -> int:
        if part not in self.ids:
            self.ids[part] = len(self.texts)
            self.texts.append(part)
        return self.ids[part]


def sentence(rng: random.Random, topic: str) -> str:
    others = rng.sample(NAMES, 3)
    return f"{topic.capitalize()} {rng.choice(LINKS)} {others[0]} {rng.choice(LINKS)} {others[1]} with {others[2]}."


def answer(rng: random.Random, topic: str, sentences: int | None = None) -> str:
    count = sentences or rng.randint(2, 6)
    return f"{rng.choice(OPENINGS)} {' '.join(sentence(rng, topic) for _ in range(count))}"


def pair(prompt: str, chosen: str, rejected: str, number: int = 0, **more: object) -> Pair:
    return Pair(
        prompt=[{"role": "user", "content": prompt}],
        chosen=[{"role": "assistant", "content": chosen}] if chosen else [],
        rejected=[{"role": "assistant", "content": rejected}] if rejected else [],
        source=f"a.jsonl:{number + 1}",
        **more,  # type: ignore[arg-type]
    )


def clean_pairs(count: int = 400, seed: int = 0) -> list[Pair]:
    """Both answers of all pairs are made in the same way."""
    rng = random.Random(seed)
    pairs = []
    for number in range(count):
        topic = f"{rng.choice(NAMES)}{number}"
        prompt = f"What is the story of {topic} in the {rng.choice(NAMES)} of {rng.choice(NAMES)}?"
        pairs.append(pair(prompt, answer(rng, topic), answer(rng, topic), number))
    return pairs


def texts(one: Pair) -> tuple[str, str, str]:
    return one.prompt[-1]["content"], one.chosen[0]["content"], one.rejected[0]["content"]


def changed(pairs: Sequence[Pair], every: int, change: Callable[[str, str, str], tuple[str, str, str]]) -> list[Pair]:
    """The pairs, every so many of them with other texts (prompt, chosen, rejected)."""
    return [pair(*change(*texts(one)), number) if number % every == 0 else one for number, one in enumerate(pairs)]


class ListColumns:
    """Columns over a list of pairs that are in memory."""

    def __init__(self, texts: Iterable[Pair], pairs: Sequence[TokenizedPair]):
        """`texts`: of all of `pairs`, in any order."""
        self._pairs = pairs
        self._features = {pair.id: features(pair) for pair in texts}  # the same id is the same text

    def __len__(self) -> int:
        return len(self._pairs)

    def column(self, name: str) -> np.ndarray:
        if name in DTYPES:
            return np.array([getattr(self._features[pair.id], name) for pair in self._pairs], DTYPES[name])
        return self._own[name]

    def lengths(self, name: str) -> np.ndarray:
        return np.array([len(getattr(pair, name)) for pair in self._pairs])

    def __getitem__(self, number: int) -> TokenizedPair:
        return self._pairs[number]

    @cached_property
    def names(self) -> list[str]:
        return sorted({pair.dataset for pair in self._pairs})

    @cached_property
    def _own(self) -> dict[str, Any]:
        numbers = {name: i for i, name in enumerate(self.names)}
        return {
            "id": np.array([int(pair.id, 16) for pair in self._pairs], np.uint64),
            "prompt": np.array([hash(tuple(pair.prompt_ids)) & (2**64 - 1) for pair in self._pairs], np.uint64),
            "dataset": np.array([numbers[pair.dataset] for pair in self._pairs], np.uint16),
            "cut": np.array([len(pair.cut) for pair in self._pairs], np.uint8),
            "margin": np.array([np.nan if pair.margin is None else pair.margin for pair in self._pairs], np.float32),
        }


def columns_over(pairs: Sequence[Pair], words: Words) -> ListColumns:
    def answer_ids(turns: list[dict[str, str]]) -> list[int]:
        return words.encode(turns[0]["content"] + " </s>") if turns else []

    tokenized = [
        TokenizedPair(
            prompt_ids=words.encode("\n".join(turn["content"] for turn in one.prompt)),
            chosen_ids=answer_ids(one.chosen),
            rejected_ids=answer_ids(one.rejected),
            source=one.source,
            dataset=one.dataset,
            id=one.id,
            margin=one.margin,
        )
        for one in pairs
    ]
    return ListColumns(pairs, tokenized)


def account(columns: ListColumns, rejects: Sequence[Reject] = (), dropped: Sequence[Reject] = ()) -> Account:
    lengths = columns.lengths("prompt_ids") + np.maximum(columns.lengths("chosen_ids"), columns.lengths("rejected_ids"))
    lost = [*rejects, *dropped]
    whole = np.concatenate([lengths, np.full(len(dropped), LIMITS.max_length + 1)])
    return Account(
        names=columns.names,
        rows_read=len(columns) + len(lost),
        limits=LIMITS,
        whole_lengths=whole,
        rejects=Counter(reject.reason for reject in rejects),
        dropped=Counter(reject.reason for reject in dropped),
    )


def measured(
    pairs: Sequence[Pair], rejects: Sequence[Reject] = (), dropped: Sequence[Reject] = (), words: Words | None = None
) -> Measured:
    words = words or Words()
    columns = columns_over(pairs, words)
    return measure(columns, account(columns, rejects, dropped), words.decode)
