"""How chosen and rejected answers compare in what can be seen from outside: marks, languages, scores."""

from dataclasses import dataclass

import numpy as np

from dpo.data.findings.languages import LANGUAGES
from dpo.data.findings.lengths import Histogram, histogram
from dpo.data.findings.marks import Mark
from dpo.data.findings.table import Table

LEAST_SHARE = 0.001  # of a language that is listed


@dataclass(kw_only=True, slots=True)
class Sides:
    """Shares of the pairs with two answers in which ..."""

    chosen: float  # the chosen answer has it
    rejected: float
    only_chosen: float  # the chosen answer has it and the rejected one has not
    only_rejected: float


@dataclass(kw_only=True, slots=True)
class Margins:
    """The data's own scores: chosen minus rejected, in the data's unit."""

    pairs: int  # that have one
    mean: float
    p5: float
    p50: float
    p95: float
    zero: int
    negative: int
    histogram: Histogram


def marks(table: Table) -> dict[str, Sides]:
    """By the name of the mark, lower case."""
    count = max(1, int(table.paired.sum()))

    def share(flags: np.ndarray) -> float:
        return float((flags & table.paired).sum() / count)

    return {
        str(mark.name).lower(): Sides(
            chosen=share(table.has("chosen", mark)),
            rejected=share(table.has("rejected", mark)),
            only_chosen=share(table.only("chosen", mark)),
            only_rejected=share(table.only("rejected", mark)),
        )
        for mark in Mark
    }


def languages(table: Table) -> dict[str, dict[str, float]]:
    """Language -> share among prompts, chosen and rejected answers, most frequent first; rare ones as "other"."""
    count = len(table)
    shares = np.stack(
        [
            np.bincount(table[f"{side}_language"], minlength=len(LANGUAGES)) / count
            for side in ("prompt", "chosen", "rejected")
        ]
    )
    listed = np.flatnonzero(shares.max(axis=0) >= LEAST_SHARE)
    order = sorted(listed, key=lambda i: (i == 0, -shares[:, i].sum()))
    found = {LANGUAGES[i]: _by_side(shares[:, i]) for i in order}
    rest = shares.sum(axis=1) - shares[:, listed].sum(axis=1)
    return found | {"other": _by_side(rest)} if rest.max() > 1e-9 else found


def _by_side(shares: np.ndarray) -> dict[str, float]:
    return dict(zip(("prompt", "chosen", "rejected"), shares.tolist(), strict=True))


def different_language(table: Table) -> float:
    """Share of the pairs with two answers whose answers are in two languages."""
    chosen, rejected = table["chosen_language"], table["rejected_language"]
    found = table.paired & (chosen > 0) & (rejected > 0) & (chosen != rejected)
    return float(found.sum() / max(1, int(table.paired.sum())))


def margins(table: Table) -> Margins | None:
    """None where no pair has a margin."""
    values = table["margin"]
    values = values[~np.isnan(values)].astype(np.float64)
    if not len(values):
        return None
    p5, p50, p95 = np.percentile(values, [5, 50, 95]).tolist()
    return Margins(
        pairs=len(values),
        mean=float(values.mean()),
        p5=p5,
        p50=p50,
        p95=p95,
        zero=int((values == 0).sum()),
        negative=int((values < 0).sum()),
        histogram=histogram({"margin": values}),
    )
