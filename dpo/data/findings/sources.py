"""The same few numbers for each data set of a mixture."""

from dataclasses import dataclass, replace

import numpy as np

from dpo.data.findings.faults import FAULTS
from dpo.data.findings.repeats import Frequent, frequent
from dpo.data.findings.table import Table, first_of


@dataclass(kw_only=True, slots=True)
class Source:
    """One data set. Shares are of its pairs."""

    name: str
    pairs: int
    prompts: int
    prompt_tokens: float  # mean, as the two below
    chosen_tokens: float
    rejected_tokens: float
    longer_chosen: float | None  # of its pairs with two answers of different length
    margin: float | None  # mean of those that have one
    template: Frequent  # its prompts whose last turn begins with the same characters; share of its prompts
    faults: dict[str, float]  # key of a fault -> share of the pairs that have it


def sources(table: Table, names: list[str], flags: dict[str, np.ndarray]) -> list[Source]:
    """The largest first; data sets without a pair are left out."""
    of = table["dataset"]
    counts = np.bincount(of, minlength=len(names))
    order = [number for number in np.argsort(-counts, kind="stable").tolist() if counts[number]]
    return [_source(table, names[number], np.flatnonzero(of == number), flags) for number in order]


def _source(table: Table, name: str, of: np.ndarray, flags: dict[str, np.ndarray]) -> Source:
    sign, margin = table.longer_chosen[of][table.paired[of]], table["margin"][of]
    margin = margin[~np.isnan(margin)]
    prompts = of[first_of(table["prompt"][of])]
    starts = table["prompt_start"][prompts]
    template = frequent(starts, np.flatnonzero(starts))
    prompt, chosen, rejected = (table[f"{side}_ids"][of] for side in ("prompt", "chosen", "rejected"))
    return Source(
        name=name,
        pairs=len(of),
        prompts=len(prompts),
        prompt_tokens=_mean(prompt) or 0.0,
        chosen_tokens=_mean(chosen[chosen > 0]) or 0.0,
        rejected_tokens=_mean(rejected[rejected > 0]) or 0.0,
        longer_chosen=_mean(sign[sign != 0] > 0),
        margin=_mean(margin),
        template=replace(template, example=int(prompts[template.example])),
        faults={fault.key: float(flags[fault.key][of].mean()) for fault in FAULTS},
    )


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None
