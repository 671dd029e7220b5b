"""The pass: the reference's forward over every response that lacks a value, on all workers, kept as it goes."""

import logging
import time
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpo.data.rows import MicroBatches
from dpo.distributed.world import World
from dpo.errors import ModelError
from dpo.model.reference import FrozenReference
from dpo.preempt import StopRequest
from dpo.progress import LINE_SECONDS, clock_time
from dpo.reference.keys import Keys
from dpo.reference.responses import Responses, Together
from dpo.reference.store import Store, Values

log = logging.getLogger(__name__)

FLUSH_SECONDS = 30.0  # between two parts of a worker: what a kill costs is this and one row


@dataclass(kw_only=True, slots=True)
class Pass:
    """Computes in rows of similar length, the longest first: what does not fit into memory shows at once."""

    reference: FrozenReference
    micro: MicroBatches  # what bounds a row, and how this worker computes it
    world: World
    store: Store
    keys: Keys  # [U] that the places refer to
    stop: StopRequest
    _waiting: list[tuple[Together, Tensor]] = field(init=False, default_factory=list)  # computed, not yet on disk
    _flushed: float = field(init=False, default_factory=time.monotonic)

    def run(self, rows: list[list[Together]], values: NDArray[np.float32]) -> None:
        """Fill in the `values` [U] of these rows on every worker.

        Raises:
            ModelError: a log-probability that is not finite.
            Stopped: on request, between two rows. What is done is on disk then.
        """
        places = [place for row in rows for t in row for place in t.places]
        turns = _deal(rows, self.world.data_size)
        computed = np.zeros_like(values)
        progress = _Progress(len(places), turns)
        try:
            for number, row in enumerate(turns):
                self.world.watchdog.moved(f"reference row {number + 1} of {len(turns)}", limited=number > 0)
                self.stop.check()
                self._compute(row[self.world.data_rank], computed)
                progress.show(number)
                self._require_finite(computed, row[self.world.data_rank])
        finally:
            self._flush()
        everyone = self.world.data_sum(torch.from_numpy(computed[places]).to(self.world.device))
        values[places] = everyone.cpu().numpy()

    def _compute(self, row: list[Together], computed: NDArray[np.float32]) -> None:
        """One row of this worker; an empty one takes part in the forward of the others."""
        batch = self.micro.collate([t.group for t in row]).to(self.world.device)
        logps = self.reference.logps(batch).cpu()
        if not row:
            return
        for t, part in zip(row, logps.split([len(t.places) for t in row]), strict=True):
            computed[t.places] = part.numpy()
            if self.world.sequence_rank == 0:  # of the workers that share a row one writes
                self._waiting.append((t, part))
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self._flush()

    def _require_finite(self, computed: NDArray[np.float32], row: list[Together]) -> None:
        """Agreed after every row, so that nobody waits for a worker that has failed."""
        wrong = [t for t in row if not np.isfinite(computed[t.places]).all()]
        if self.world.agree(bool(wrong)):
            sources = [source for found in self.world.collect([t.group.sources[0] for t in wrong]) for source in found]
            raise ModelError(
                f"the reference's log-probability of {', '.join(sources[:3])} is not finite in "
                f"precision={self.world.precision}: try precision=fp32, and check that the weights were loaded"
            )

    def _flush(self) -> None:
        """One part with everything that is waiting; never a value that is not finite."""
        places = [place for t, _ in self._waiting for place in t.places]
        logps = np.array([value for _, part in self._waiting for value in part.tolist()], dtype=np.float32)
        tokens = np.array([len(r) for t, _ in self._waiting for r in t.group.responses], dtype=np.int32)
        finite = np.isfinite(logps)
        if finite.any():
            keys = self.keys[places]
            self.store.append(Values(keys=keys[finite], logps=logps[finite], tokens=tokens[finite]))
        self._waiting, self._flushed = [], time.monotonic()


def missing_rows(responses: Responses, values: NDArray[np.float32], micro: MicroBatches) -> list[list[Together]]:
    """Rows with all that `values` [U] has as NaN, the longest first.

    A pass that was killed has kept whole rows, but not the same number on every worker. What it left is computed in the
    rows that it had cut: in other company the last bits of a value would change, and with them those of the run.
    """
    lacking = np.isnan(values)
    everything = cut_rows(responses.together(np.arange(len(values)), micro.hold), micro)
    untouched = [row for row in everything if all(lacking[t.places].all() for t in row)]
    for row in untouched:
        for t in row:
            lacking[t.places] = False
    others = cut_rows(responses.together(np.flatnonzero(lacking), micro.hold), micro)
    return sorted([*untouched, *others], key=lambda row: -row[0].group.longest)


def cut_rows(wanted: list[Together], micro: MicroBatches) -> list[list[Together]]:
    """Neighbours by length together: next to no padding where rows are padded, similar work where they are not."""
    packed = micro.layout == "packed"
    rows: list[list[Together]] = []
    cost, responses = 0, 0
    for t in sorted(wanted, key=lambda t: (-t.group.longest, t.places)):
        responses += len(t.places)
        cost += t.group.row_tokens
        width = rows[-1][0].group.longest if rows else 0
        if not rows or (cost if packed else responses * width) > micro.max_tokens:
            rows.append([])
            cost, responses = t.group.row_tokens, len(t.places)
        rows[-1].append(t)
    return rows


def _deal(rows: list[list[Together]], size: int) -> list[list[list[Together]]]:
    """[turn][worker]: rows of similar length at the same time; the last turn may leave workers without one."""
    return [rows[i : i + size] + [[]] * (size - len(rows[i : i + size])) for i in range(0, len(rows), size)]


class _Progress:
    """A line now and then: how far, how fast, how long still."""

    def __init__(self, total: int, rows: list[list[list[Together]]]):
        self.total, self.done, self.tokens = total, 0, 0
        self.rows = rows
        self.all_tokens = sum(_tokens(turn) for turn in rows)
        self.began = self.shown = time.monotonic()

    def show(self, number: int) -> None:
        """After turn `number`."""
        self.done += sum(len(t.places) for row in self.rows[number] for t in row)
        self.tokens += _tokens(self.rows[number])
        now = time.monotonic()
        if now - self.shown < LINE_SECONDS and number + 1 < len(self.rows):
            return
        self.shown = now
        speed = self.tokens / max(now - self.began, 1e-9)
        left = (self.all_tokens - self.tokens) / speed
        time_text = f"{clock_time(left)} left" if left else f"in {clock_time(now - self.began)}"
        log.info(
            "reference: %s of %s computed, %.0f tokens/s, %s", f"{self.done:,}", f"{self.total:,}", speed, time_text
        )


def _tokens(turn: list[list[Together]]) -> int:
    return sum(t.group.row_tokens for row in turn for t in row)
