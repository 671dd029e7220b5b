"""Metrics as sums and counts on the device; means appear only when a record is written, over all workers at once."""

import math

import torch
from torch import Tensor

from dpo.data.batch import Batch, PairLogps
from dpo.loss import Loss, rewards

# |chosen reward - rejected reward| under this is a tie and counts one half: float32 sums over different rows differ
# by about 1e-6, and before the first step every margin is such a rounding.
TIE = 1e-5

REWARDS = ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies")
LOGPS = ("logps/chosen", "logps/rejected")
COUNTS = ("units", "compared", "pairs", "tokens")
NAMES = ("loss", *REWARDS, *LOGPS, *COUNTS)


class StepStats:
    """Running sums, one per entry of NAMES: the losses, the metrics of every pair, and what they are divided by.

    units: what the loss counts (pairs or answer tokens); compared: pairs with both responses computed; pairs: pairs
    of the data; tokens: prompts once, responses each, no padding.
    """

    __slots__ = ("sums",)

    def __init__(self, device: torch.device | str = "cpu", sums: Tensor | None = None):
        self.sums = torch.zeros(len(NAMES), dtype=torch.float64, device=device) if sums is None else sums

    def add(self, batch: Batch, logps: PairLogps, losses: Tensor, loss: Loss) -> None:
        """Add a micro-batch. Stays on the device: nothing here waits for it."""
        if not logps.real:
            return
        columns = {"loss": losses, **_pair_columns(logps, loss)}
        counts = {
            "units": loss.denominator(batch.n_pairs, batch.n_response_tokens),
            "compared": len(logps.pairs),
            "pairs": batch.n_pairs,
            "tokens": batch.n_tokens,
        }
        zero = self.sums.new_zeros(())
        sums = [columns[n].sum(dtype=torch.float64) if n in columns else zero for n in NAMES[: -len(COUNTS)]]
        self.sums[: -len(COUNTS)] += torch.stack(sums)
        self.sums[-len(COUNTS) :] += torch.tensor([counts[n] for n in COUNTS], dtype=torch.float64).to(
            self.sums.device, non_blocking=True
        )

    def counts(self) -> dict[str, float]:
        """The divisors. Waits for the device."""
        return dict(zip(COUNTS, self.sums[-len(COUNTS) :].tolist(), strict=True))

    def record(self, loss: Loss) -> dict[str, float]:
        """Means per unit of loss and per pair; what a loss does not define is left out. Without any unit the loss is
        NaN: 0.0 would look perfect. Waits for the device."""
        values = dict(zip(NAMES, self.sums.tolist(), strict=True))
        means = {"loss": values["loss"] / values["units"] if values["units"] else math.nan}
        if values["compared"]:
            names = (*REWARDS, *LOGPS) if loss.kind.needs_reference else LOGPS
            means |= {name: values[name] / values["compared"] for name in names}
        return means


def _pair_columns(logps: PairLogps, loss: Loss) -> dict[str, Tensor]:
    if not len(logps.pairs):
        return {}
    columns = dict(zip(LOGPS, logps.sides(logps.policy), strict=True))
    if logps.reference is not None and loss.beta is not None:
        chosen, rejected = rewards(logps, loss.beta)
        margins = chosen - rejected
        columns |= dict(zip(REWARDS, (chosen, rejected, margins, accuracies(margins)), strict=True))
    return columns


def accuracies(margins: Tensor) -> Tensor:
    """1 where the chosen response has the higher reward, 0 where the rejected has, 0.5 for a tie, NaN for NaN: [P]."""
    ranked = torch.where(margins.abs() <= TIE, 0.5, (margins > 0).to(margins.dtype))
    return torch.where(margins.isnan(), margins, ranked)
