"""Metrics as sums and counts on the device; means appear only when a record is written, over all workers at once."""

import math
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
PER_PAIR = (*REWARDS, BASELINE, *LOGPS, DRIFT)
COUNTS = ("compared", "pairs", "tokens")
MARGINS = "rewards/margins"
SPREAD = tuple(f"{MARGINS}_bin{i}" for i in range(histogram.BINS))
SHARES = (0.1, 0.5, 0.9)  # quantiles of the margins in a record
QUANTILES = tuple(f"{MARGINS}_p{100 * share:.0f}" for share in SHARES)
HISTOGRAM = f"{MARGINS}_histogram"


class StepStats:
    """Running sums: the losses of every term and their units, the metrics of every pair, what those are divided by, and
    how the margins are spread.

    compared: pairs with both responses computed; pairs: pairs of the data; tokens: prompts once, responses each, no
    padding.
    """

    __slots__ = ("loss", "names", "sums")

    def __init__(self, loss: Loss, device: torch.device | str = "cpu", sums: Tensor | None = None):
        self.loss = loss
        terms = [term.name for term in loss.terms]
        self.names = (
            *(f"loss/{term}" for term in terms),
            *PER_PAIR,
            *(f"units/{term}" for term in terms),
            *COUNTS,
            *SPREAD,
        )
        self.sums = torch.zeros(len(self.names), dtype=torch.float64, device=device) if sums is None else sums

    def add(self, counts: Counts, logps: PairLogps, values: list[Tensor]) -> None:
        """Add a micro-batch; `values`: per term the losses of its units. Stays on the device: nothing here waits."""
        if not logps.real:
            return
        n_terms = len(values)
        columns = self._pair_columns(logps)
        zero = self.sums.new_zeros(())
        losses = [value.sum(dtype=torch.float64) for value in values]
        metrics = [columns[name].sum(dtype=torch.float64) if name in columns else zero for name in PER_PAIR]
        self.sums[: n_terms + len(PER_PAIR)] += torch.stack([*losses, *metrics])
        known = [*self.loss.units(counts), len(logps.pairs), counts.pairs, counts.tokens]
        self.sums[n_terms + len(PER_PAIR) : -len(SPREAD)] += torch.tensor(known, dtype=torch.float64).to(
            self.sums.device, non_blocking=True
        )
        if MARGINS in columns:
            self.sums[-len(SPREAD) :] += histogram.count(columns[MARGINS])

    def counts(self) -> dict[str, float]:
        """The divisors of metrics. Waits for the device."""
        sums = dict(zip(self.names, self.sums.tolist(), strict=True))
        return {name: sums[name] for name in COUNTS}

    def record(self) -> dict[str, Any]:
        """Means per unit of loss and per pair; what a loss does not define is left out. Without any unit the loss is
        NaN: 0.0 would look perfect. Waits for the device."""
        sums = dict(zip(self.names, self.sums.tolist(), strict=True))
        means: dict[str, Any] = self._losses(sums)
        if sums["compared"]:
            means |= {name: sums[name] / sums["compared"] for name in self._defined()}
            means |= self._spread([sums[name] for name in SPREAD])
        return means

    def _spread(self, counts: list[float]) -> dict[str, Any]:
        """Quantiles and histogram of the margins."""
        if not self.loss.has_rewards:
            return {}
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

    def _pair_columns(self, logps: PairLogps) -> dict[str, Tensor]:
        if not len(logps.pairs):
            return {}
        columns = dict(zip(LOGPS, logps.sides(logps.policy), strict=True))
        if self.loss.has_rewards:
            chosen, rejected = self.loss.rewards(logps)
            margins = chosen - rejected
            columns |= dict(zip(REWARDS, (chosen, rejected, margins, accuracies(margins)), strict=True))
        if logps.reference is not None:
            columns[DRIFT] = logps.sides(logps.policy - logps.reference)[0]
        if self.loss.has_baseline:
            baseline = torch.as_tensor(self.loss.baseline(logps), dtype=logps.policy.dtype, device=logps.policy.device)
            columns[BASELINE] = baseline.expand(len(logps.pairs))
        return columns


def accuracies(margins: Tensor) -> Tensor:
    """1 where the chosen response has the higher reward, 0 where the rejected has, 0.5 for a tie, NaN for NaN: [P]."""
    ranked = torch.where(margins.abs() <= TIE, 0.5, (margins > 0).to(margins.dtype))
    return torch.where(margins.isnan(), margins, ranked)
