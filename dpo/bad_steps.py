"""Steps whose loss or gradient was not finite: no worker applied them. Which pairs were in them, and what they gave."""

import logging
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dpo.data.batch import Batch
from dpo.disk import explain
from dpo.distributed.engine import Engine, Stepped
from dpo.distributed.world import World
from dpo.errors import BadNumbersError
from dpo.losses.loss import Loss
from dpo.metrics import StepStats
from dpo.records import append_lines
from dpo.step import Reference, look

log = logging.getLogger(__name__)

NAMED = 3  # pairs that the log names; the file holds all
SIDES = ("chosen", "rejected")


@dataclass(kw_only=True, slots=True)
class BadSteps:
    """Finds them and keeps their pairs. The file only grows: a step that is tried again and fails again is in it twice,
    told apart by `at`."""

    engine: Engine
    reference: Reference
    loss: Loss
    world: World
    file: Path

    def found(self, stepped: Stepped, stats: StepStats) -> bool:
        """Whether this step was bad. Under fp16 an overflow while the scale adapts is not, unless the loss itself is
        not finite: no scale cures that. A collective, then."""
        if stepped.applied or not stepped.rescaled:
            return not stepped.applied
        return self.world.agree(not bool(stats.sums.isfinite().all()))

    def keep(self, step: int, batches: list[Batch], sources: dict[str, str]) -> None:
        """Compute the pairs of step `step` (counted from 1) once more and write them down: those with a number that is
        not finite; all where it was the gradient alone. `sources`: where a pair id stands in the data. A collective."""
        mine = [row for batch in batches for row in self._pairs(batch.to(self.world.device))]
        # Workers that share rows have computed the same pairs: the first of each group speaks.
        gathered = self.world.collect(mine)[:: self.world.sequence_size]
        everyone = [row | {"worker": worker} for worker, rows in enumerate(gathered) for row in rows]
        wrong = [row for row in everyone if not _finite(row)]
        if self.world.is_main:
            at = datetime.now(UTC).isoformat(timespec="seconds")
            rows = [{"step": step, "at": at, "source": sources[row["id"]], **row} for row in wrong or everyone]
            _tell(rows, bool(wrong), self.file)
            try:
                append_lines(self.file, rows)
            except OSError as error:  # the other workers go on
                log.warning("they could not be written down: %s", explain(error, self.file.parent))

    def too_many(self, n: int, last: int, rollbacks: int) -> BadNumbersError:
        """What ends a run after `n` of them in a row, up to step `last`."""
        return BadNumbersError(
            f"the loss or the gradient was not finite in {n} steps in a row, {last - n + 1} to {last} "
            f"(guard.max_bad_steps={n}, rollbacks so far: {rollbacks}). None was applied; the pairs are in "
            f"{self.file}. The same command tries these steps again, with the weights after step {last - n}. To try: a "
            "lower optim.lr, precision=fp32, the data without such pairs. Or go on behind them: guard.on_bad=rollback "
            "with the weights of the newest checkpoint, guard.max_bad_steps=null with the present ones."
        )

    def _pairs(self, batch: Batch) -> list[dict[str, Any]]:
        """What every pair of the batch gives; of one answer alone, that."""
        logps = look(self.engine, self.reference, batch)
        if not logps.real:
            return []
        losses = self.loss.per_pair(logps)
        rows: list[dict[str, Any]] = [{"id": pair} for pair in batch.pair_ids]
        for row, loss in zip(rows, [] if losses is None else losses.tolist(), strict=False):
            row["loss"] = loss
        for who, values in (("policy", logps.policy), ("reference", logps.reference)):
            known = [] if values is None else values.tolist()
            for row, responses in zip(rows, batch.rows if known else [], strict=False):
                row |= {f"{who}_{side}": known[i] for side, i in zip(SIDES, responses, strict=True) if i is not None}
        return rows


def _finite(row: dict[str, Any]) -> bool:
    return all(math.isfinite(value) for value in row.values() if isinstance(value, float))


def _tell(rows: list[dict[str, Any]], wrong: bool, file: Path) -> None:
    named = ", ".join(f"{row['source']} (id {row['id']})" for row in rows[:NAMED])
    more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
    what = (
        "these pairs have a log-probability or loss that is not finite"
        if wrong
        else "every loss is finite, the gradient is not; its pairs are"
    )
    log.warning("step %d was not applied on any worker: %s: %s%s; see %s", rows[0]["step"], what, named, more, file)
