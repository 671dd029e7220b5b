"""Numbers that are finite and still go wrong. Each kind is told once (falling chosen answers again when the fall has
doubled), with what was measured and the setting to try.

A function of the training records alone: a resumed run that reads its metrics.jsonl again knows what it knew.
"""

import math
from collections import deque
from collections.abc import Iterable
from statistics import fmean, median
from typing import Any

from dpo.config.schema import GuardConfig, OptimConfig

Record = dict[str, Any]

FEW = 10  # records in a mean: single batches differ by the lengths of their answers
EARLIEST = 20  # records before the first one that can be called a spike
MAD_TO_SIGMA = 1.4826  # of a normal distribution: its deviation over its median absolute deviation
# Least deviation, relative to the median and absolute. DPO begins with a loss of ln 2 that hardly varies and ends near
# zero, where a single misjudged pair adds 0.1 to the loss of a batch. Gradient norms of healthy runs triple for a step.
LEAST = {"loss": (0.02, 0.02), "grad_norm": (0.5, 0.0)}
STUCK_ACCURACY, STUCK_LOSS = 0.05, 0.005  # distance from one half; relative change of the loss since the first record


class Symptoms:
    """Receives the training records in their order."""

    def __init__(self, guard: GuardConfig, optim: OptimConfig, beta: float | None):
        """`beta` of the loss, None where none pulls to a reference or several do."""
        self.guard, self.optim, self.beta = guard, optim, beta
        self._first: list[Record] = []
        self._last: deque[Record] = deque(maxlen=guard.window)  # those before the present one
        self._at_full_rate: list[Record] = []  # since the learning rate stopped growing
        self._fall = 1  # multiple of guard.chosen_drop that is told next
        self._untold = {
            "loss": lambda record: self._spike(record, "loss"),
            "grad_norm": lambda record: self._spike(record, "grad_norm"),
            "stuck": self._stuck,
            "chosen": self._chosen_falls,
            "kl": self._far_from_reference,
        }

    def see(self, record: Record) -> list[str]:
        """What this record of a training step shows for the first time."""
        if not all(math.isfinite(record[key]) for key in ("loss", "grad_norm")):
            return []  # a step that was not applied: told by itself
        if len(self._first) < FEW:
            self._first.append(record)
        self._follow_rate(record)
        found = {name: text for name, rule in self._untold.items() if (text := rule(record))}
        self._last.append(record)
        for name in found:
            if name == "chosen":
                self._fall *= 2
            else:
                del self._untold[name]
        return [f"step {record['step']}: {text}" for text in found.values()]

    def _follow_rate(self, record: Record) -> None:
        if self._last and record["learning_rate"] > self._last[-1]["learning_rate"]:
            self._at_full_rate = []
        if len(self._at_full_rate) < self.guard.window:
            self._at_full_rate.append(record)

    def _spike(self, record: Record, key: str) -> str | None:
        values = [row[key] for row in self._last]
        if self.guard.spike_sigmas is None or len(values) < EARLIEST:
            return None
        middle = median(values)
        spread = MAD_TO_SIGMA * median(abs(value - middle) for value in values)
        relative, absolute = LEAST[key]
        sigma = max(spread, relative * abs(middle), absolute)
        if record[key] <= middle + self.guard.spike_sigmas * sigma:
            return None
        return (
            f"{key} is {record[key]:.4g}, {(record[key] - middle) / sigma:.0f} deviations over the median of the "
            f"last {len(values)} records, {middle:.4g} (guard.spike_sigmas={self.guard.spike_sigmas:g}). If it stays "
            f"up: lower optim.lr ({self.optim.lr:g}) or optim.max_grad_norm ({self.optim.max_grad_norm:g}), or "
            f"raise optim.warmup_ratio ({self.optim.warmup_ratio:g})"
        )

    def _stuck(self, record: Record) -> str | None:
        rows = self._at_full_rate
        if len(rows) < self.guard.window or "rewards/accuracies" not in record:
            return None
        accuracy, loss, first = _mean(rows, "rewards/accuracies"), _mean(rows, "loss"), self._first[0]["loss"]
        if not (abs(accuracy - 0.5) <= STUCK_ACCURACY and abs(loss - first) <= STUCK_LOSS * abs(first)):
            return None
        return (
            f"rewards/accuracies is {accuracy:.3f} and the loss {loss:.4f} (at first {first:.4f}) in the mean of "
            f"{len(rows)} records at the full learning rate: nothing is learnt. Raise optim.lr ({self.optim.lr:g}) "
            "and look whether chosen and rejected answers differ in what the log shows of the first pair"
        )

    def _chosen_falls(self, record: Record) -> str | None:
        """Likelihood displacement (Razin et al. 2024, arXiv:2410.08847): both answers become unlikely, the rejected one
        faster, and what becomes likely instead is neither."""
        limit, last = self.guard.chosen_drop, list(self._last)[-FEW:]
        if limit is None or len(self._last) < 2 * FEW or "rewards/margins" not in record:
            return None
        before, now = _mean(self._first, "logps/chosen"), _mean(last, "logps/chosen")
        if not before - now > self._fall * limit * abs(before):
            return None
        if not _mean(last, "rewards/margins") > _mean(self._first, "rewards/margins"):
            return None
        return (
            f"logps/chosen fell from {before:.4g} to {now:.4g} nats while the margins grew: chosen answers, too, "
            f"become unlikely (guard.chosen_drop={limit:g}). {self._nearer()}, or hold them up: loss=rpo, loss=dpop"
        )

    def _far_from_reference(self, record: Record) -> str | None:
        limit, last = self.guard.max_kl, [*self._last, record][-FEW:]
        if limit is None or len(last) < FEW or "kl/chosen" not in record:
            return None
        # The mean of log pi - log ref: the divergence itself if the policy had written the chosen answers.
        distance = _mean(last, "kl/chosen")
        if abs(distance) <= limit:
            return None
        return (
            f"the policy is {distance:+.4g} nats per chosen answer away from the reference, in the mean of {len(last)} "
            f"records (guard.max_kl={limit:g}). {self._nearer()}"
        )

    def _nearer(self) -> str:
        """What keeps the policy where it began."""
        pull = "Lower" if self.beta is None else f"Raise loss.beta ({self.beta:g}), lower"
        return f"{pull} optim.lr ({self.optim.lr:g}) or train for fewer optim.epochs ({self.optim.epochs:g})"


def _mean(rows: Iterable[Record], key: str) -> float:
    """Of the records that have it, NaN without any: of unpaired rows a record may have no pair, or no good answer."""
    values = [row[key] for row in rows if key in row]
    return fmean(values) if values else math.nan
