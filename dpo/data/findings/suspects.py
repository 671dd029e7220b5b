"""The few pairs that a person should read first."""

from dataclasses import dataclass

import numpy as np

from dpo.data.findings.faults import FAULTS, Fault
from dpo.data.findings.table import Table

SHOWN = 10
POOL, OF_EACH = 1000, 10  # candidates: the highest sums of weights, and the first pairs with each fault
AGAIN = 0.4  # a fault's weight once a pair with it is shown: ten pairs of one kind say less than some of each


@dataclass(kw_only=True, slots=True)
class Suspect:
    """A pair with faults."""

    number: int
    faults: list[str]  # keys, the heaviest first
    twin: int  # number of the pair that says the opposite, -1: none


def suspects(table: Table, flags: dict[str, np.ndarray]) -> list[Suspect]:
    """The most suspicious pairs, no two of one prompt."""
    weights = np.array([fault.weight * _sure(fault, flags) for fault in FAULTS], np.float32)
    pool = _pool(flags, weights)
    has = np.stack([flags[fault.key][pool] for fault in FAULTS], axis=1)
    prompts = table["prompt"][pool]
    free = np.ones(len(pool), bool)
    found: list[Suspect] = []
    while len(found) < SHOWN:
        scores = np.where(free, has @ weights, 0)
        if not scores.any():
            break
        best = int(scores.argmax())
        reasons = np.flatnonzero(has[best])
        keys = [FAULTS[i].key for i in sorted(reasons, key=lambda i: -FAULTS[i].weight)]
        number = int(pool[best])
        found.append(Suspect(number=number, faults=keys, twin=int(table.twin[number])))
        weights[reasons] *= AGAIN
        free &= prompts != prompts[best]
    return found


def _sure(fault: Fault, flags: dict[str, np.ndarray]) -> float:
    """Which share of the pairs with a fault has it in truth, by what the other side has alike."""
    found, alike = int(flags[fault.key].sum()), int(flags[fault.against].sum()) if fault.against else 0
    return max(0.0, 1 - alike / found) if found else 0.0


def _pool(flags: dict[str, np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Numbers of pairs with a fault, in order."""
    scores = sum(weight * flags[fault.key] for fault, weight in zip(FAULTS, weights, strict=True))
    assert isinstance(scores, np.ndarray)
    # A stable order makes the same choice on every machine; argpartition would not.
    highest = np.argsort(-scores, kind="stable")[:POOL]
    first = [np.flatnonzero(flag)[:OF_EACH] for flag in flags.values()]
    return np.unique(np.concatenate([highest[scores[highest] > 0], *first]))
