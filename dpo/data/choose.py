"""Which of the prepared pairs are used, and how often: dpo/data/select over the columns of the sources."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dpo.config.schema import DataConfig
from dpo.data.decontaminate.benchmark import Benchmark, Overlap
from dpo.data.decontaminate.note import contamination_note
from dpo.data.read.sources import source_shares
from dpo.data.select.contamination import find_contamination
from dpo.data.select.duplicates import find_duplicates
from dpo.data.select.leaks import find_leaks
from dpo.data.select.mix import epoch_passes, mix_notes
from dpo.data.select.split import split_rows
from dpo.data.sets import DUPLICATE, HELD_OUT_TOO, IN_BENCHMARK, DataSets, Unused, source_note
from dpo.data.store.pairs import PairStore, PairView, Source
from dpo.data.text.limits import TokenLimits

Rows = NDArray[np.int64]


class Chooser:
    """The sources of a run, and what has been decided of their pairs so far."""

    def __init__(self, config: DataConfig, train: list[Source], held_out: list[Source]):
        self.config, self.sources, self.held_sources = config, train, held_out
        self.unused: list[Unused] = []
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def choose(self, fraction: float, limits: TokenLimits, benchmark: Benchmark | None) -> DataSets:
        """`fraction`: of the prompts, held out where there are no held-out sources."""
        store = PairStore(self.sources)
        rows = self._once(store)
        train, held_out = self._beside(store, rows) if self.held_sources else self._apart(store, rows, fraction)
        if benchmark:
            train = self._decontaminated(train, benchmark)
        sets = DataSets(
            train=train,
            held_out=held_out,
            unused=[one for one in self.unused if len(one.rows)],
            sources=[*self.sources, *self.held_sources],
            limits=limits,
            notes=self.notes,
            warnings=self.warnings,
            passes=self._passes(train),
        )
        if unused := sets.unused:
            counts = ", ".join(f"{len(one.rows)} {one.reason}" for one in unused)
            self.notes.append(f"data: pairs left out: {counts}")
        return sets

    def _leave_out(self, store: PairStore, rows: Rows, reason: str, detail: Callable[[int], str]) -> None:
        self.unused.append(Unused(store=store, rows=rows, reason=reason, detail=detail))

    def _once(self, store: PairStore) -> Rows:
        """Every pair once, unless data.duplicates keeps the others."""
        if self.config.duplicates == "keep" or self.config.demo:
            return np.arange(len(store))
        found = find_duplicates(store.column("id"))
        self._leave_out(
            store, found.dropped, DUPLICATE, lambda i: f"the same pair is {store.source(int(found.first[i]))}"
        )
        return found.kept

    def _apart(self, store: PairStore, rows: Rows, fraction: float) -> tuple[PairView, PairView]:
        """A fraction of the prompts is held out."""
        split = split_rows(store.take("prompt", rows), fraction)
        train = PairView(store=store, rows=rows[split.train])
        held_out = PairView(store=store, rows=rows[split.held_out])
        self._note_sources([f"{len(train)} train / {len(held_out)} held-out"])
        if fraction > 0 and len(train) and not len(held_out):
            self.notes.append(
                "data: all pairs have the same prompt, so that none is held out; set data.eval_path to evaluate"
            )
        return train, held_out

    def _beside(self, store: PairStore, rows: Rows) -> tuple[PairView, PairView]:
        """Held-out data of their own, whose prompts are not trained on."""
        other = PairStore(self.held_sources)
        held_out = PairView(store=other, rows=self._once(other))
        leaks = find_leaks(store.take("prompt", rows), held_out.column("prompt"))
        self._leave_out(store, rows[leaks.leaked], HELD_OUT_TOO, lambda i: "the same prompt is in the held-out data")
        train = PairView(store=store, rows=rows[leaks.kept])
        self._note_sources([f"{len(train)} train"])
        self.notes += [source_note(source, f"{source.manifest.tally.pairs} held-out") for source in self.held_sources]
        if not len(held_out):
            self.notes.append("data: no held-out pair is left: nothing is evaluated")
        return train, held_out

    def _note_sources(self, sides: list[str]) -> None:
        """A line for each source; the sides stand in the line of a single one, else in their own."""
        if len(self.sources) == 1:
            self.notes.append(source_note(self.sources[0], sides[0]))
            return
        self.notes += [source_note(source, f"{source.manifest.tally.pairs} pairs") for source in self.sources]
        rows = sum(source.manifest.tally.rows_read for source in self.sources)
        self.notes.append(f"data: {len(self.sources)} sources, {rows} rows, {sides[0]}")

    def _decontaminated(self, train: PairView, benchmark: Benchmark) -> PairView:
        """`train` without the prompts that hold too much of a benchmark; the log tells how many hold some."""
        shares, items = train.column("overlap_share"), train.column("overlap_item")
        drop = self.config.decontaminate_drop
        found = find_contamination(train.column("prompt"), shares, drop)
        worst = [
            (train.store.source(int(train.rows[row])), Overlap(item=int(items[row]), share=float(shares[row])))
            for row in found.worst
        ]
        note = contamination_note(found, worst, benchmark, drop)
        (self.warnings if found.affected else self.notes).append(note)
        self._leave_out(
            train.store,
            train.rows[found.dropped],
            IN_BENCHMARK,
            lambda i: (
                f"the prompt holds {100 * shares[found.dropped[i]]:.0f} % of "
                f"{benchmark.places[items[found.dropped[i]]]}"
            ),
        )
        return PairView(store=train.store, rows=train.rows[found.kept])

    def _passes(self, train: PairView) -> list[Rows]:
        """How often an epoch sees each training pair."""
        shares = source_shares(self.config)
        if not shares:
            return [np.arange(len(train))]
        sources = train.column("dataset")
        passes = epoch_passes(train.column("prompt"), sources, list(shares.values()))
        seen = np.concatenate([np.empty(0, np.int64), *passes])
        counts = (np.bincount(rows, minlength=len(shares)) for rows in (sources, sources[seen]))
        self.notes += mix_notes(list(shares), *counts)
        return passes
