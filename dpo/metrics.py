"""Metrics as sums and counts on the device; means appear only when a record is written, over all workers at once."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dpo import histogram
from dpo.data.batch import Counts, PairLogps
from dpo.losses.loss import Loss

# |chosen reward - rejected reward| under this is a tie and counts one half: float32 sums over different rows differ
# by about 1e-6, and before the first step every margin is such a rounding.
TIE = 1e-5

REWARDS = ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies")
BASELINE = "rewards/baseline"
LOGPS = ("logps/chosen", "logps/rejected")
DRIFT = "kl/chosen"
SIZES = ("compared", "chosen", "rejected")
COUNTS = (*SIZES, "pairs", "tokens")
# Every metric with which of the counts it is a mean over.
MEANS = {
    "rewards/chosen": "chosen",
    "rewards/rejected": "rejected",
    "rewards/margins": "compared",
    "rewards/accuracies": "compared",
    BASELINE: "pairs",
    "logps/chosen": "chosen",
    "logps/rejected": "rejected",
    DRIFT: "chosen",
}
MARGINS = "rewards/margins"
SPREAD = tuple(f"{MARGINS}_bin{i}" for i in range(histogram.BINS))
SHARES = (0.1, 0.5, 0.9)  # quantiles of the margins in a record
QUANTILES = tuple(f"{MARGINS}_p{100 * share:.0f}" for share in SHARES)
HISTOGRAM = f"{MARGINS}_histogram"


class StepStats:
    """Running sums: the losses of every term and their units, the metrics of every row, what those are divided by, and
    how the margins are spread.

    compared: pairs with both responses computed; chosen, rejected: good and bad answers, of pairs and of unpaired rows;
    pairs: rows of the data; tokens: prompts once, responses each, no padding. `datasets`: those whose rewards are also
    kept apart, as `rewards/accuracies/<name>`.
    """

    __slots__ = ("datasets", "loss", "names", "sums")

    def __init__(
        self,
        loss: Loss,
        device: torch.device | str = "cpu",
        datasets: Sequence[str] = (),
        sums: Tensor | None = None,
    ):
        self.loss, self.datasets = loss, datasets
        terms = [term.name for term in loss.terms]
        self.names = (
            *(f"loss/{term}" for term in terms),
            *MEANS,
            *(f"{metric}/{name}" for metric in REWARDS for name in datasets),
            *(f"units/{term}" for term in terms),
            *COUNTS,
            *(f"{size}/{name}" for size in SIZES for name in datasets),
            *SPREAD,
        )
        self.sums = torch.zeros(len(self.names), dtype=torch.float64, device=device) if sums is None else sums

    def add(self, counts: Counts, logps: PairLogps, values: list[Tensor]) -> None:
        """Add a micro-batch; `values`: per term the losses of its units. Stays on the device: nothing here waits."""
        if not logps.real:
            return
        columns = self._columns(logps)
        found = {f"loss/{term.name}": value for term, value in zip(self.loss.terms, values, strict=True)} | columns
        sums = {name: column.sum(dtype=torch.float64) for name, column in found.items()}
        sums |= self._apart(columns, logps)
        known = self._known(counts, logps)
        zero, n_computed = self.sums.new_zeros(()), len(self.names) - len(known) - len(SPREAD)
        self.sums[:n_computed] += torch.stack([sums.get(name, zero) for name in self.names[:n_computed]])
        counted = torch.tensor(known, dtype=torch.float64).to(self.sums.device, non_blocking=True)
        self.sums[n_computed : -len(SPREAD)] += counted
        if MARGINS in columns:
            self.sums[-len(SPREAD) :] += histogram.count(columns[MARGINS])

    def counts(self) -> dict[str, float]:
        """The divisors of metrics. Waits for the device."""
        sums = dict(zip(self.names, self.sums.tolist(), strict=True))
        return {name: sums[name] for name in COUNTS}

    def record(self) -> dict[str, Any]:
        """Means per unit of loss, per answer and per pair; what a loss does not define, or nothing was there for, is
        left out. Without any unit the loss is NaN: 0.0 would look perfect. Waits for the device."""
        sums = dict(zip(self.names, self.sums.tolist(), strict=True))
        defined = self._defined()
        over = {name: MEANS[name] for name in defined}
        over |= {
            f"{name}/{own}": f"{MEANS[name]}/{own}" for name in REWARDS if name in defined for own in self.datasets
        }
        means = {name: sums[name] / sums[count] for name, count in over.items() if sums[count]}
        spread = self._spread([sums[name] for name in SPREAD]) if MARGINS in means else {}
        return self._losses(sums) | means | spread

    def _spread(self, counts: list[float]) -> dict[str, Any]:
        """Quantiles and histogram of the margins."""
        found = histogram.quantiles(counts, list(SHARES))
        return {**dict(zip(QUANTILES, found, strict=True)), HISTOGRAM: histogram.by_bin(counts)}

    def _losses(self, sums: dict[str, float]) -> dict[str, float]:
        """The weighted sum of the terms and, where there are several, each without its weight."""
        terms = self.loss.terms
        units = {term.name: sums[f"units/{term.name}"] for term in terms}
        means = {name: sums[f"loss/{name}"] / count if count else math.nan for name, count in units.items()}
        total = sum(term.weight * means[term.name] for term in terms)
        return {"loss": total} | ({f"loss/{name}": mean for name, mean in means.items()} if len(terms) > 1 else {})

    def _defined(self) -> list[str]:
        found = [*REWARDS] if self.loss.has_rewards else []
        found += [BASELINE] if self.loss.has_baseline else []
        return [*found, *LOGPS, *([DRIFT] if self.loss.needs_reference else [])]

    def _columns(self, logps: PairLogps) -> dict[str, Tensor]:
        """The values that the metrics are means of."""
        columns = dict(zip(LOGPS, logps.sides(logps.policy), strict=True))
        if self.loss.has_rewards:
            chosen, rejected = self.loss.rewards(logps)
            margins = chosen[: len(logps.pairs)] - rejected[: len(logps.pairs)]
            columns |= dict(zip(REWARDS, (chosen, rejected, margins, accuracies(margins)), strict=True))
        if logps.reference is not None:
            columns[DRIFT] = logps.sides(logps.policy - logps.reference)[0]
        if self.loss.has_baseline:
            baseline = torch.as_tensor(self.loss.baseline(logps), dtype=logps.policy.dtype, device=logps.policy.device)
            columns[BASELINE] = baseline.expand(logps.n_rows)
        return columns

    def _apart(self, columns: dict[str, Tensor], logps: PairLogps) -> dict[str, Tensor]:
        """The sums of rewards of every data set."""
        found: dict[str, Tensor] = {}
        origins = _origins(logps)
        for metric in REWARDS if self.datasets else ():
            if metric in columns:
                own = [[origin == name for origin in origins[MEANS[metric]]] for name in self.datasets]
                mask = torch.tensor(own, dtype=torch.bool).to(self.sums.device, non_blocking=True)
                sums = torch.where(mask, columns[metric], 0.0).sum(1, dtype=torch.float64)
                found |= {f"{metric}/{name}": value for name, value in zip(self.datasets, sums, strict=True)}
        return found

    def _known(self, counts: Counts, logps: PairLogps) -> list[int]:
        """What the last of `names` count, known without the device."""
        n_pairs, n_good, n_bad = len(logps.pairs), len(logps.desirable), len(logps.undesirable)
        origins = _origins(logps)
        apart = [origins[size].count(name) for size in SIZES for name in self.datasets]
        return [
            *self.loss.units(counts),
            *(n_pairs, n_pairs + n_good, n_pairs + n_bad, counts.pairs, counts.tokens),
            *apart,
        ]


def _origins(logps: PairLogps) -> dict[str, list[str]]:
    """For each of SIZES the data sets of what it counts."""
    begin = len(logps.pairs)
    end = begin + len(logps.desirable)
    paired, good, bad = logps.datasets[:begin], logps.datasets[begin:end], logps.datasets[end:]
    return {"compared": paired, "chosen": paired + good, "rejected": paired + bad}


def accuracies(margins: Tensor) -> Tensor:
    """1 where the chosen response has the higher reward, 0 where the rejected has, 0.5 for a tie, NaN for NaN: [P]."""
    ranked = torch.where(margins.abs() <= TIE, 0.5, (margins > 0).to(margins.dtype))
    return torch.where(margins.isnan(), margins, ranked)
