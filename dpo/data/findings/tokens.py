"""What the limits on length cost, and what computing each prompt once saves."""

from dataclasses import dataclass

import numpy as np

from dpo.data.findings.columns import Account
from dpo.data.findings.table import Table, first_of

LIMITS = (256, 512, 1024, 2048, 4096, 8192, 16384)  # tokens
KEPT = 0.99  # of the pairs, by the limit that is recommended
PADDED_PAIRS = 8  # pairs of a batch whose rows are padded to its longest


@dataclass(kw_only=True, slots=True)
class Limits:
    """`data.max_length` and what it does to the pairs."""

    max_length: int
    max_prompt_length: int | None
    truncation: str
    pairs: int  # before the limits
    dropped: int  # pairs that were left out for their length, or were equal once cut
    cut: int  # pairs that were shortened
    keeps_99: int  # the smallest data.max_length that leaves 99 % of the pairs whole
    keeps_all: int
    beyond: dict[int, int]  # a limit -> pairs that are longer


@dataclass(kw_only=True, slots=True)
class Computed:
    """Tokens that one pass over the pairs computes."""

    two_rows_padded: int  # prompt + chosen and prompt + rejected, padded to the longest of every 8 pairs
    two_rows: int
    prompt_once: int  # per pair
    answer_once: int  # per prompt with all its pairs, each answer once


def limits(table: Table, account: Account, dropped: int) -> Limits:
    whole = np.sort(account.whole_lengths)
    return Limits(
        max_length=account.limits.max_length,
        max_prompt_length=account.limits.max_prompt_length,
        truncation=account.limits.truncation,
        pairs=len(whole),
        dropped=dropped,
        cut=int((table["cut"] > 0).sum()),
        keeps_99=int(whole[int(np.ceil(KEPT * len(whole))) - 1]),
        keeps_all=int(whole[-1]),
        beyond={limit: int((whole > limit).sum()) for limit in LIMITS},
    )


def computed(table: Table) -> Computed:
    prompt, chosen, rejected = (table[f"{side}_ids"].astype(np.int64) for side in ("prompt", "chosen", "rejected"))
    rows = np.stack([np.where(answer > 0, prompt + answer, 0) for answer in (chosen, rejected)], axis=1)
    return Computed(
        two_rows_padded=_padded(rows),
        two_rows=int(rows.sum()),
        prompt_once=int((prompt + chosen + rejected).sum()),
        answer_once=int(prompt[first_of(table["prompt"])].sum()) + _answers_once(table, chosen, rejected),
    )


def _padded(rows: np.ndarray) -> int:
    """Tokens of `rows` [n, 2], batch by batch in the order of the data."""
    filled = np.zeros((-(-len(rows) // PADDED_PAIRS) * PADDED_PAIRS, 2), np.int64)
    filled[: len(rows)] = rows
    longest = filled.reshape(-1, 2 * PADDED_PAIRS).max(axis=1)
    sizes = np.full(len(longest), 2 * PADDED_PAIRS)
    sizes[-1] = 2 * (len(rows) - PADDED_PAIRS * (len(longest) - 1))
    return int((longest * sizes).sum())


def _answers_once(table: Table, chosen: np.ndarray, rejected: np.ndarray) -> int:
    """Answers to one prompt that differ in formatting alone have one key and are all computed: hence the lengths."""
    prompt = table["prompt"] * np.uint64(0x9E3779B97F4A7C15)
    sides = [
        prompt + table[f"{side}_key"] + lengths.astype(np.uint64)
        for side, lengths in (("chosen", chosen), ("rejected", rejected))
    ]
    first = first_of(np.concatenate(sides))
    return int(chosen[first[: len(table)]].sum() + rejected[first[len(table) :]].sum())
