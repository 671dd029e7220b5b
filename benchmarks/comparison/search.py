"""Which of TRL's settings are its best: a short search by measurement."""

from collections.abc import Callable
from typing import Any

Settings = dict[str, Any]
Tried = dict[str, Any]  # {"settings": Settings, "measured": asdict(Measured) | None, "why": str when there is none}

SLOWER = 1.05  # a batch size that costs so much more ends the climb
ALIKE = 1.03  # settings within so much of the fastest count as equally fast: the leanest of them is taken


def climb(attempt: Callable[[Settings], Tried], batch_sizes: list[int]) -> list[Tried]:
    """Try growing batches without gradient checkpointing, then with it from the best batch on, then the best of all
    with the reference computed in every step. Returns everything tried, in order."""
    tried = _grow(attempt, batch_sizes, checkpointing=False)
    start = best(tried)["settings"]["batch_size"] if any(t["measured"] for t in tried) else batch_sizes[0]
    tried += _grow(attempt, [size for size in batch_sizes if size >= start], checkpointing=True)
    tried.append(attempt({**best(tried)["settings"], "precompute": False}))
    return tried


def _grow(attempt: Callable[[Settings], Tried], batch_sizes: list[int], *, checkpointing: bool) -> list[Tried]:
    tried: list[Tried] = []
    for size in batch_sizes:
        tried.append(attempt({"batch_size": size, "precompute": True, "checkpointing": checkpointing}))
        measured = tried[-1]["measured"]
        if measured is None or measured["seconds"] > SLOWER * best(tried)["measured"]["seconds"]:
            break
    return tried


def best(tried: list[Tried]) -> Tried:
    """The fastest; of those that are nearly as fast, the one with the smallest peak memory.

    Raises:
        ValueError: nothing that was tried fits.
    """
    done = [t for t in tried if t["measured"]]
    if not done:
        raise ValueError(f"none of TRL's settings fits: {[t.get('why') for t in tried]}")
    fastest = min(t["measured"]["seconds"] for t in done)
    alike = [t for t in done if t["measured"]["seconds"] <= ALIKE * fastest]
    return min(alike, key=lambda t: t["measured"]["peak_gib"] - t["measured"]["baseline_gib"])
