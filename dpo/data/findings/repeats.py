"""What occurs again and again: prompts, answers, openings of answers, prompts made from one template."""

from dataclasses import dataclass

import numpy as np

from dpo.data.findings.table import Table, first_of

OPENINGS = 5  # that are kept, the most telling ones
OPENING_PAIRS = 20  # of one kind, below which an opening tells nothing


@dataclass(kw_only=True, slots=True)
class Opening:
    """The first words of answers. Shares of the pairs with two answers."""

    chosen: float
    rejected: float
    side: str  # where it is more frequent
    example: int  # number of a pair whose answer on that side opens so
    text: str = ""  # of the example; filled in where texts are at hand


@dataclass(kw_only=True, slots=True)
class Frequent:
    """The value that occurs most often."""

    pairs: int
    share: float
    example: int  # number of the first pair with it
    text: str = ""  # the beginning of the example


@dataclass(kw_only=True, slots=True)
class Repeats:
    """Shares are of all pairs, unless they say otherwise."""

    prompts: int  # different ones
    most_of_one_prompt: int  # pairs
    duplicates: int  # pairs that repeat an earlier one
    conflicts: int  # pairs with a twin that says the opposite
    chosen: Frequent  # the chosen answer that most prompts share; formatting does not count
    rejected: Frequent
    openings: list[Opening]


def repeats(table: Table) -> Repeats:
    per_prompt = np.unique(table["prompt"], return_counts=True)[1]
    return Repeats(
        prompts=len(per_prompt),
        most_of_one_prompt=int(per_prompt.max()),
        duplicates=int(table.repeated.sum()),
        conflicts=int((table.twin >= 0).sum()),
        chosen=_same_answer(table, "chosen"),
        rejected=_same_answer(table, "rejected"),
        openings=_openings(table),
    )


def frequent(values: np.ndarray, of: np.ndarray) -> Frequent:
    """The most frequent value at the numbers `of`; shares are of all values."""
    if not len(of):
        return Frequent(pairs=0, share=0.0, example=0)
    _, first, counts = np.unique(values[of], return_index=True, return_counts=True)
    best = int(counts.argmax())
    return Frequent(pairs=int(counts[best]), share=float(counts[best] / len(values)), example=int(of[first[best]]))


def _same_answer(table: Table, side: str) -> Frequent:
    """Several pairs of one prompt count once: ranked answers stand in many pairs."""
    keys = table[f"{side}_key"]
    once = first_of(table["prompt"] * np.uint64(0x9E3779B97F4A7C15) + keys)
    return frequent(keys, np.flatnonzero(once & (table[f"{side}_ids"] > 0)))


def _openings(table: Table) -> list[Opening]:
    """The openings whose shares among chosen and rejected answers are furthest apart."""
    of = np.flatnonzero(table.paired)
    sides = [table[f"{side}_opening"][of] for side in ("chosen", "rejected")]
    counted = [np.unique(values, return_counts=True) for values in sides]
    often = np.union1d(*(values[counts >= OPENING_PAIRS] for values, counts in counted))
    often = often[often != 0]
    counts = np.stack([_counts_of(often, *one) for one in counted])
    difference = np.abs(counts[0] - counts[1])
    found = []
    for best in np.argsort(-difference, kind="stable")[:OPENINGS]:
        if difference[best]:
            more = int(counts[1, best] > counts[0, best])
            chosen, rejected = (counts[:, best] / len(of)).tolist()
            example = int(of[np.argmax(sides[more] == often[best])])
            side = ("chosen", "rejected")[more]
            found.append(Opening(chosen=chosen, rejected=rejected, side=side, example=example))
    return found


def _counts_of(wanted: np.ndarray, values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """How often each of `wanted` occurs; `values`: sorted, each once."""
    if not len(values):
        return np.zeros(len(wanted), np.int64)
    place = np.minimum(np.searchsorted(values, wanted), len(values) - 1)
    return np.where(values[place] == wanted, counts[place], 0)
