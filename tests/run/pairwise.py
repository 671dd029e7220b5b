"""Few cases that still meet every pair of values of every two factors."""

from collections.abc import Callable, Iterator
from itertools import combinations, product
from typing import Any

Case = dict[str, Any]


def every_case(factors: dict[str, list[Any]], possible: Callable[[Case], bool]) -> list[Case]:
    cases = (dict(zip(factors, values, strict=True)) for values in product(*factors.values()))
    return [case for case in cases if possible(case)]


def pairwise(cases: list[Case]) -> list[Case]:
    """Of `cases`, greedily those that add the most pairs, until all pairs that occur are met. The same every time."""
    missing = {pair for case in cases for pair in pairs(case)}
    chosen = []
    while missing:
        best = max(cases, key=lambda case: len(missing & set(pairs(case))))
        chosen.append(best)
        missing -= set(pairs(best))
    return chosen


def pairs(case: Case) -> Iterator[tuple[tuple[str, Any], ...]]:
    return combinations(case.items(), 2)
