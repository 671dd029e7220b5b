"""The pass: the reference's forward over every response that lacks a value, on all workers, kept as it goes."""

import logging
import time
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpo.data.rows import MicroBatches
from dpo.distributed.world import World
from dpo.errors import ModelError
from dpo.model.reference import FrozenReference
from dpo.preempt import Stopped, StopRequest
from dpo.progress import LINE_SECONDS, clock_time
from dpo.reference.responses import Planned, Responses, Together
from dpo.reference.store import Store, Values, join

log = logging.getLogger(__name__)

FLUSH_SECONDS = 30.0  # between two parts: what a kill costs is this and one row


@dataclass(kw_only=True, slots=True)
class Pass:
    """Computes in rows of similar length, the longest first: what does not fit into memory shows at once.

    Worker 0 keeps what all have computed: the disk of another machine is not looked at by the next launch.
    """

    reference: FrozenReference
    micro: MicroBatches  # what bounds a row, and how this worker computes it
    world: World
    store: Store
    responses: Responses  # that the places refer to
    stop: StopRequest
    _waiting: list[tuple[Together, Tensor]] = field(init=False, default_factory=list)  # computed, not yet on disk
    _flushed: float = field(init=False, default_factory=time.monotonic)

    def run(self, rows: "list[Row]", values: NDArray[np.float32]) -> None:
        """Fill in the `values` [U] of these rows on every worker.

        Raises:
            ModelError: a log-probability that is not finite.
            Stopped: on request, between two rows.

        What is done is on disk in either case.
        """
        places = np.concatenate([row.places for row in rows])
        size = self.world.data_size  # rows of similar length at the same time; the last turn may leave workers without
        turns = [rows[i : i + size] for i in range(0, len(rows), size)]
        computed = np.zeros_like(values)
        progress = _Progress(len(places), turns)
        try:
            for number, turn in enumerate(turns):
                self.world.watchdog.moved(f"reference row {number + 1} of {len(turns)}", limited=number > 0)
                self.stop.check()
                mine = turn[self.world.data_rank].load(self.responses) if self.world.data_rank < len(turn) else []
                self._compute(mine, computed)
                progress.show(number)
                self._require_finite(computed, mine)
                if self.world.agree(self.world.is_main and time.monotonic() - self._flushed > FLUSH_SECONDS):
                    self._flush()
        except (Stopped, ModelError):  # of all workers; after the error of one alone the others would wait for it
            self._flush()
            raise
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
        """One part with everything that is waiting anywhere. A collective."""
        values = join(self.world.collect(self._computed()))
        self._waiting, self._flushed = [], time.monotonic()
        if len(values.keys):
            self.world.on_main(lambda: self.store.append(values))

    def _computed(self) -> Values:
        """What waits on this worker; never a value that is not finite."""
        places = np.array([place for t, _ in self._waiting for place in t.places], np.int64)
        logps = np.array([value for _, part in self._waiting for value in part.tolist()], np.float32)
        tokens = np.array([len(r) for t, _ in self._waiting for r in t.group.responses], np.int32)
        finite = np.isfinite(logps)
        return Values(keys=self.responses.keys(places[finite]), logps=logps[finite], tokens=tokens[finite])


@dataclass(kw_only=True, slots=True)
class Row:
    """What one forward pass of one worker computes."""

    planned: Planned
    begin: int  # the first of `planned` that stands in it
    end: int  # the first behind it

    @property
    def places(self) -> NDArray[np.int64]:
        """[n] of all its responses."""
        return self.planned.places[self.planned.begins[self.begin] : self.planned.begins[self.end]]

    @property
    def tokens(self) -> int:
        return int(self.planned.row_tokens[self.begin : self.end].sum())

    @property
    def longest(self) -> int:
        """As `PromptGroup.longest`, of its first, which is the longest of all."""
        return int(self.planned.longest[self.begin])

    def load(self, responses: Responses) -> list[Together]:
        bounds = self.planned.begins[self.begin : self.end + 1].tolist()
        return [responses.load(self.planned.places[a:b].tolist()) for a, b in pairwise(bounds)]


def missing_rows(responses: Responses, values: NDArray[np.float32], micro: MicroBatches) -> list[Row]:
    """Rows with all that `values` [U] has as NaN, the longest first.

    A pass that was killed has kept whole rows, but not the same number on every worker. What it left is computed in the
    rows that it had cut: in other company the last bits of a value would change, and with them those of the run.
    """
    lacking = np.isnan(values)
    everything = cut_rows(responses.together(np.arange(len(values)), micro.hold), micro)
    untouched = [row for row in everything if lacking[row.places].all()]
    for row in untouched:
        lacking[row.places] = False
    others = cut_rows(responses.together(np.flatnonzero(lacking), micro.hold), micro)
    return sorted([*untouched, *others], key=lambda row: -row.longest)


def cut_rows(wanted: Planned, micro: MicroBatches) -> list[Row]:
    """Neighbours by length together: next to no padding where rows are padded, similar work where they are not."""
    packed = micro.layout == "packed"
    wanted = wanted.ordered(np.lexsort((wanted.places[wanted.begins[:-1]], -wanted.longest)))
    begins: list[int] = []
    cost = responses = width = 0
    sizes, tokens = np.diff(wanted.begins).tolist(), wanted.row_tokens.tolist()
    for i, (size, own, longest) in enumerate(zip(sizes, tokens, wanted.longest.tolist(), strict=True)):
        responses += size
        cost += own
        if not begins or (cost if packed else responses * width) > micro.max_tokens:
            begins.append(i)
            cost, responses, width = own, size, longest
    return [Row(planned=wanted, begin=begin, end=end) for begin, end in pairwise([*begins, len(sizes)])]


class _Progress:
    """A line now and then: how far, how fast, how long still."""

    def __init__(self, total: int, turns: list[list[Row]]):
        self.total, self.done, self.tokens = total, 0, 0
        self.turns = turns
        self.all_tokens = sum(_tokens(turn) for turn in turns)
        self.began = self.shown = time.monotonic()

    def show(self, number: int) -> None:
        """After turn `number`."""
        self.done += sum(len(row.places) for row in self.turns[number])
        self.tokens += _tokens(self.turns[number])
        now = time.monotonic()
        if now - self.shown < LINE_SECONDS and number + 1 < len(self.turns):
            return
        self.shown = now
        speed = self.tokens / max(now - self.began, 1e-9)
        left = (self.all_tokens - self.tokens) / speed
        time_text = f"{clock_time(left)} left" if left else f"in {clock_time(now - self.began)}"
        log.info(
            "reference: %s of %s computed, %.0f tokens/s, %s", f"{self.done:,}", f"{self.total:,}", speed, time_text
        )


def _tokens(turn: list[Row]) -> int:
    return sum(row.tokens for row in turn)
