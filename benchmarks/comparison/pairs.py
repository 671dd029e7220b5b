"""The pairs of a case and their file."""

import json
from functools import cache
from pathlib import Path

from comparison.jobs import digest
from comparison.presets import REAL, Case
from comparison.profiles import PROFILES, synthetic_pairs
from comparison.real import real_pairs
from comparison.words import WordPair


@cache
def _real(folder: Path, n_pairs: int, vocabulary: int) -> list[WordPair]:
    return real_pairs(folder, n_pairs, vocabulary)


def case_pairs(case: Case, vocabulary: int, data: Path) -> list[WordPair]:
    """Raises FileNotFoundError when the case wants real pairs and `data` has too few."""
    if case.profile == REAL:
        return _real(data, case.n_pairs, vocabulary)
    return synthetic_pairs(PROFILES[case.profile], case.n_pairs, vocabulary)


def write(pairs: list[WordPair], file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(pair.row()) + "\n" for pair in pairs))
    return file


def expected(pairs: list[WordPair]) -> str:
    """The digest that a trainer must give for the token ids it trains on."""
    return digest((list(p.prompt), list(p.chosen), list(p.rejected)) for p in pairs)


def by_prompt(pairs: list[WordPair]) -> list[list[WordPair]]:
    """The pairs of every prompt."""
    groups: dict[tuple[int, ...], list[WordPair]] = {}
    for pair in pairs:
        groups.setdefault(pair.prompt, []).append(pair)
    return list(groups.values())
