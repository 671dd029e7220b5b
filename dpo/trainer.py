"""The training loop, as a table of contents; the step itself is dpo/step.py."""

import copy
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from dpo.bad_steps import BadSteps
from dpo.checkpoint.restore import restore
from dpo.checkpoint.save import Checkpoints, Provider
from dpo.config.schema import GuardConfig, OptimConfig
from dpo.data.batch import Batch
from dpo.data.loader import Loader, PreparedStep
from dpo.distributed.engine import Engine
from dpo.distributed.moving import MovingWeights
from dpo.distributed.world import World
from dpo.evaluate.drift import SampledDrift
from dpo.evaluate.held_out import HeldOut
from dpo.evaluate.samples import Sampler
from dpo.losses.loss import Loss
from dpo.memory import peak_gib
from dpo.metrics import StepStats
from dpo.model.scorer import Scorer
from dpo.optim import learning_rate
from dpo.preempt import Stopped, StopRequest
from dpo.progressed import Progressed
from dpo.recorder import Recorder
from dpo.step import Reference, Work, train_step
from dpo.window import Window

log = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True)
class Every:
    """Steps between two of the same; 0: only at the end."""

    record: int
    evaluate: int
    save: int


@dataclass(kw_only=True, slots=True)
class Trainer:
    """Runs the steps of a plan on all workers."""

    seed: int
    optim: OptimConfig
    every: Every
    world: World
    engine: Engine
    scorer: Scorer
    reference: Reference
    moving: MovingWeights | None  # those of `reference`, when it follows the policy
    loss: Loss
    loader: Loader
    total_steps: int
    held_out: HeldOut
    datasets: list[str]  # whose metrics are kept apart, too; empty where there is one
    sampler: Sampler
    drift: SampledDrift
    checkpoints: Checkpoints
    stop: StopRequest
    guard: GuardConfig
    bad_steps: BadSteps
    recorder: Recorder = field(init=False)  # opened last, when nothing can go wrong before the first step any more
    done: Progressed = field(default_factory=Progressed)
    window: Window = field(init=False)
    before_bad: Window = field(init=False)  # as it was before the bad steps in a row that the last one belongs to
    measured: dict[str, Any] = field(default_factory=dict)  # the last held-out record
    warm: bool = field(init=False, default=False)  # after the first step, whose kernels may take minutes to compile

    def __post_init__(self) -> None:
        self.window = Window(world=self.world, loss=self.loss, datasets=self.datasets)

    def run(self) -> None:
        """Train to the end.

        Raises:
            Stopped: on request, with a checkpoint of the last whole step: a resumed run repeats what came after it.
            BadNumbersError: see `recover`.
        """
        try:
            if self._evaluation_due():
                self.evaluate()
                if self.done.step:
                    self.save()  # else the checkpoint that the run continues from would owe it for ever
            while self.done.step < self.total_steps:
                self.train()
                if self._due(self.every.record):
                    self.record()
                if self.guard.max_bad_steps and self.done.bad_in_a_row >= self.guard.max_bad_steps:
                    self.recover()
                if self._evaluation_due():
                    self.evaluate()
                self.checkpoints.poll()
                if self._due_to_save():
                    self.save()
            self.checkpoints.finish()
        except Stopped:
            self._forget_bad()
            if self.done.step:
                self.save()
            self.checkpoints.finish()
            raise

    def train(self) -> None:
        """One optimizer step."""
        start = time.perf_counter()
        if self.moving:
            self.done.reference_syncs = self.moving.follow(self.engine.applied, self.done.reference_syncs)
        self._report("its pairs")
        prepared = self.loader.step(self.done.step)
        plan = prepared.plan
        self.loss.at(self.done.step / self.total_steps)
        work = Work(
            batches=lambda: self._on_device(prepared.batches, plan.step),
            n_batches=len(prepared.batches),
            mismatched=lambda: (batch for batch, _ in self._on_device(prepared.mismatched, plan.step)),
            counts=plan.counts,
            datasets=self.datasets,
        )
        stats = train_step(self.engine, self.reference, work, self.loss, self.world)
        self._report("optimizer")
        lr = learning_rate(self.engine.applied, self.total_steps, self.optim)
        stepped, before = self.engine.step(lr), copy.copy(self.window)
        if stepped.applied:
            self.window.stats.sums += stats.sums
            self.loss.accept()
        self.window.stepped, self.window.lr = stepped, lr
        self.window.batch, self.window.epoch = plan.digest, plan.epoch
        bad = self.bad_steps.found(stepped, stats)
        if bad and self.done.bad_since is None:
            self.before_bad = before
        self.done.count(plan, stepped.applied, bad)
        if bad:
            self._keep_bad(prepared)
        self.window.seconds += time.perf_counter() - start
        self.warm = True

    def record(self) -> None:
        """Write the means since the last record. The only place where the workers' metrics meet."""
        self._report("record")
        start = time.perf_counter()
        mine = torch.tensor([peak_gib(self.world.device)], dtype=torch.float64, device=self.world.device)
        everyone = self.world.gather(torch.cat([self.window.stats.sums, mine]))
        # Workers that share rows have added up the same sums: the first of each group speaks.
        total = StepStats(self.loss, datasets=self.datasets, sums=everyone[:: self.world.sequence_size, :-1].sum(0))
        means, counts = total.record(), total.counts()
        seconds = self.window.seconds + time.perf_counter() - start  # the device has caught up by now
        stepped = self.window.stepped
        assert stepped is not None
        scale = {} if stepped.loss_scale is None else {"loss_scale": stepped.loss_scale}
        self.recorder.log(
            {
                "step": self.done.step,
                "split": "train",
                **means,
                "grad_norm": stepped.grad_norm,
                "learning_rate": self.window.lr,
                **self.loss.betas,
                "epoch": round(self.window.epoch, 6),
                "pairs": self.done.pairs,
                "tokens": self.done.tokens,
                "bad_steps": self.done.bad,
                "skipped_steps": self.done.skipped,
                "rollbacks": self.done.rollbacks,
                **scale,
                "pairs_per_second": counts["pairs"] / seconds,
                "tokens_per_second": counts["tokens"] / seconds,
                "peak_memory_gib": everyone[:, -1].max().item(),
                "batch": self.window.batch,
                **({"reference_syncs": self.done.reference_syncs} if self.moving else {}),
            }
        )
        self.window = Window(world=self.world, loss=self.loss, datasets=self.datasets)

    def evaluate(self) -> None:
        """Measure the held-out set; before the first step and after the last also answer the sample prompts."""
        self.loss.at(self.done.step / self.total_steps)
        record = self.held_out.measure()
        if self.done.step in (0, self.total_steps):
            self.world.watchdog.moved("answers to held-out prompts", limited=False)
            answers, shares = self.sampler.sample(self.scorer)
            self.recorder.samples(self.done.step, answers)
            record |= shares | self.drift.measure(self.scorer)
        if record:
            self.measured = {"step": self.done.step, "split": "eval", **record}
            self.recorder.log(self.measured)
        self.done.evaluated = self.done.step

    def providers(self) -> dict[str, Provider]:
        """What a checkpoint keeps besides weights and moments."""
        return {**self._learnt(), "window": self.window}

    def _learnt(self) -> dict[str, Provider]:
        """What belongs to the weights, and goes back with them."""
        loss: dict[str, Provider] = {"loss": self.loss} if self.loss.remembers else {}
        return {"progress": self.done, "engine": self.engine, **loss}

    def save(self) -> None:
        """Begin a checkpoint: it is written while training goes on."""
        is_current = self.measured.get("step") == self.done.step
        metrics = {k: v for k, v in self.measured.items() if isinstance(v, float)} if is_current else {}
        self.window.collect()
        self.recorder.sync()  # else a power failure could keep the checkpoint and lose rows from before it: a gap
        self.checkpoints.save(self.done.step, self.engine, self.providers(), metrics)

    def recover(self) -> None:
        """After too many bad steps in a row: older weights where `guard.on_bad` asks for them, else the end.

        Raises:
            BadNumbersError: with a checkpoint of before those steps, so that the same command tries them again.
        """
        n, last = self.done.bad_in_a_row, self.done.step
        self.world.watchdog.moved("looking for an older checkpoint", limited=False)
        may_go_back = self.guard.on_bad == "rollback" and self.done.rollbacks < self.guard.max_rollbacks
        if may_go_back and (checkpoint := self.checkpoints.newest()):
            return self.roll_back(checkpoint)
        self._forget_bad()
        if self.done.step:
            self.save()
            self.checkpoints.finish()
        raise self.bad_steps.too_many(n, last, self.done.rollbacks)

    def roll_back(self, checkpoint: Path) -> None:
        """Weights, moments and learning rate of `checkpoint`; the data go on where they are (as in PaLM, Chowdhery et
        al. 2022, arXiv:2204.02311, sect. 5.1)."""
        now = replace(self.done)
        restore(checkpoint, self.engine, self._learnt())
        log.warning(
            "rollback %d of %d after %d bad steps in a row, up to step %d: on with the data behind, weights of step %d",
            now.rollbacks + 1,
            self.guard.max_rollbacks,
            now.bad_in_a_row,
            now.step,
            self.done.step,
        )
        self.done.after_rollback(now)

    def _keep_bad(self, prepared: PreparedStep) -> None:
        groups = prepared.plan.members
        sources = {i: source for g in groups for i, source in zip(g.pair_ids, g.sources, strict=True)}
        self._seed(prepared.plan.step)
        self.world.watchdog.moved(f"the pairs of step {self.done.step} once more", limited=False)
        self.bad_steps.keep(self.done.step, prepared.batches, sources)

    def _forget_bad(self) -> None:
        """Back to before the bad steps in a row that the last one belongs to: a run that goes on tries them again."""
        if self.done.bad_since is not None:
            self.window = self.before_bad  # its sums have not grown: none of those steps was applied
            self.done.before_bad()

    def _seed(self, step: int) -> None:
        """Anew for every step and worker: dropout then needs no generator state in a checkpoint. The hash of whole
        numbers is the same in every process, whatever PYTHONHASHSEED."""
        torch.manual_seed(hash((self.seed, step, self.world.rank)) % 2**63)

    def _on_device(self, batches: list[Batch], step: int) -> Iterator[tuple[Batch, bool]]:
        """Every batch with whether it is the last, copied when its turn comes: copies of all would wait in memory. The
        same dropout every time.

        Before each the workers may agree to stop: the step is then abandoned. What it has added to the gradients is in
        no checkpoint, and its sums are in no record.
        """
        self._seed(step)
        for i, batch in enumerate(batches):
            self._report(f"micro-batch {i + 1} of {len(batches)}")
            self.stop.check()
            yield batch.to(self.world.device), i == len(batches) - 1

    def _report(self, what: str) -> None:
        self.world.watchdog.moved(f"step {self.done.step + 1}, {what}", limited=self.warm)

    def _due_to_save(self) -> bool:
        """Not among bad steps in a row: a resumed run would pass over them."""
        return self._due(self.every.save) and (self.done.bad_since is None or self.done.step == self.total_steps)

    def _evaluation_due(self) -> bool:
        """Also true when the run was stopped in or before the evaluation of the step that it continues from."""
        return self.done.evaluated < self.done.step and (self.done.step == 0 or self._due(self.every.evaluate))

    def _due(self, every: int) -> bool:
        return self.done.step == self.total_steps or (every > 0 and self.done.step % every == 0)
