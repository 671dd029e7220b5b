"""Assembles a run in one visible order: start -> folder -> data -> reference -> model -> engine -> trainer -> export.

Only the assembly (this file and dpo/build_*.py) sees the whole configuration.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dpo import closing
from dpo.bad_steps import BadSteps
from dpo.build_data import Text, build_data
from dpo.build_groups import Sides, build_groups
from dpo.build_model import Policy, build_engine, build_policy
from dpo.build_reference import build_reference, fill_reference, moving_weights
from dpo.checkpoint.manifest import read_manifest
from dpo.checkpoint.restore import restore
from dpo.checkpoint.save import Checkpoints
from dpo.config.compose import Composed, as_dict
from dpo.config.schema import RunConfig
from dpo.data.groups import Groups
from dpo.data.loader import Loader
from dpo.data.pair import TokenizedPair
from dpo.data.plan import DataPlan
from dpo.data.rows import MicroBatches
from dpo.data.sets import DataSets
from dpo.disk import explain
from dpo.distributed.followed import FollowedEngine
from dpo.distributed.storage import workers_near
from dpo.distributed.world import World
from dpo.errors import CheckpointError, UserError
from dpo.evaluate.drift import SampledDrift
from dpo.evaluate.generate import Generator
from dpo.evaluate.held_out import HeldOut
from dpo.evaluate.samples import CHECKERS, Sampler
from dpo.export import Trained, export
from dpo.losses.loss import Loss
from dpo.model.source import ModelSource
from dpo.model_card import model_card
from dpo.plan_here import PlanHere
from dpo.preempt import Stopped, StopRequest
from dpo.progress import Progress
from dpo.recorder import Recorder
from dpo.records import RunFolder, read_metrics, read_status, write_status
from dpo.run_folder import STOP, open_folder, write_settings
from dpo.run_lock import RunLock
from dpo.self_check import SelfCheck
from dpo.start import start
from dpo.symptoms import Symptoms
from dpo.track.choose import make_tracker
from dpo.trainer import Every, Trainer

log = logging.getLogger(__name__)


def run(composed: Composed, stop: StopRequest) -> int:
    """One run from configuration to exported model. Returns 0 when done, `checkpoint.stopped_code` when asked to stop.

    Raises:
        UserError: anything the user can cure, before or during training; `status.json` then says failed and why.
    """
    began = start(composed, stop)
    config, world, folder = began.config, began.world, began.folder
    lock = RunLock(folder.lock)
    world.on_main(lock.take)
    world.near = workers_near(folder.lock, world)
    world.watchdog.tell = lambda why: _say_failed(folder, why)
    assembled = Run(
        config=config,
        source=began.source,
        text=began.text,
        world=world,
        folder=folder,
        checkpoints=Checkpoints(folder.checkpoints, config.checkpoint, world),
        stop=stop,
    )
    try:
        with world.watchdog.explained():
            assembled.go()
        code = 0
    except Stopped:
        assembled.note_stop()
        code = config.checkpoint.stopped_code
        log.info("%s: leaving %.1f s later; the same command continues from there", stop.reason, stop.seconds())
    except BaseException as error:
        if world.is_main:
            _say_failed(folder, str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}")
        raise
    world.close()
    lock.release()
    return code


def _say_failed(folder: RunFolder, why: str) -> None:
    """Of a run that has begun: one that was refused has no status, or that of an earlier launch."""
    if folder.status.exists():
        _say(folder, state="failed", why=why)


def _say(folder: RunFolder, **changes: Any) -> None:
    """In status.json at the end, which a full disk must neither change nor hide."""
    try:
        write_status(folder, **changes)
    except OSError as error:
        log.error("status.json cannot say how the run ended: %s", explain(error, folder.path))


@dataclass(kw_only=True, slots=True)
class Run:
    """Everything between joining the other workers and leaving them."""

    config: RunConfig
    source: ModelSource
    text: Text
    world: World
    folder: RunFolder
    checkpoints: Checkpoints
    stop: StopRequest

    def go(self) -> None:
        log.info("run: %s", self.folder.path)
        checkpoint = open_folder(self.config, self.folder, self.world)
        self.stop.watch(self.folder.path / STOP)
        if self.world.is_main:
            write_status(self.folder, state="running", why="", stop_seconds=None, name=self.folder.name)
        plan_here = PlanHere.of(self.config, self.source, self.world)
        # A run that is done is shown on any machine.
        self.world.on_main(lambda: None if self.folder.final.exists() else plan_here.require_room())
        sets = build_data(self.config, self.text, self.folder, self.world, self.stop)
        loss = Loss(self.config.loss)
        groups = self.stop.alone(lambda: build_groups(self.config, sets, loss))
        plan = DataPlan(groups.train, seed=self.config.seed, global_batch_size=self.config.optim.global_batch_size)
        total_steps = plan.total_steps(self.config.optim.epochs, self.config.optim.max_steps)
        if checkpoint and (step := self.world.on_main(lambda: self._ended_at(checkpoint, total_steps))):
            log.info("this run is done already: more optim.epochs go on, another name= or resume=never starts afresh")
            return self._show(step)
        if self.world.is_main:
            write_settings(self.config, self.folder)  # not before: a run that is done keeps those it was trained with
        plan_here.tell(groups.train, len(sets.held_out))
        fill_reference(self.config, self.source, groups, self.world, self.stop)
        trainer, policy = self._assemble(sets, groups, loss, plan)
        self.stop.check()
        if checkpoint:
            restore(checkpoint, trainer.engine, trainer.providers(), self.world)
            self.checkpoints.continue_from(trainer.done.step, trainer.providers())
        elif self.config.guard.self_check:
            self._self_check(trainer, groups.train, groups.supplied)
        trainer.recorder = self._recorder(trainer)
        log.info("%s", _overview(trainer))
        try:
            trainer.run()
        except Stopped:
            log.info("stopped after step %d", trainer.done.step)
            if not self.checkpoints.problem:
                self.note_stop(step=trainer.done.step)  # first: closing the tracker may outlast a scheduler's patience
            self._close(trainer, "stopped")
            raise
        except BaseException:
            trainer.recorder.close(1, {})
            raise
        self._end(trainer, policy)

    def _ended_at(self, checkpoint: Path, total_steps: int) -> int | None:
        """The step after which an earlier launch exported the model; None when there is still something to do."""
        step = read_manifest(checkpoint).step
        return step if step >= total_steps and self.folder.final.exists() else None

    def note_stop(self, **changes: Any) -> None:
        """In status.json, with the time since the request."""
        if self.world.is_main:
            seconds = round(self.stop.seconds(), 3)
            _say(self.folder, state="stopped", why=self.stop.reason, stop_seconds=seconds, **changes)

    def _assemble(self, sets: DataSets, groups: Sides, loss: Loss, plan: DataPlan) -> tuple[Trainer, Policy]:
        """The model side, and the trainer over it."""
        config, world = self.config, self.world
        world.watchdog.moved("loading the model", limited=False)
        total_steps = plan.total_steps(config.optim.epochs, config.optim.max_steps)
        policy = build_policy(config, self.source, world)
        micro = MicroBatches(
            layout=policy.layout,
            max_tokens=config.optim.micro_batch_tokens * world.sequence_size,
            max_pairs=config.optim.micro_batch_pairs,
            world_size=world.data_size,
            slice_rank=world.sequence_rank,
            slices=world.sequence_size,
        )
        reference = build_reference(config, policy, self.source, world)
        engine = build_engine(config, policy, world)
        moving = moving_weights(config, engine, reference, world, total_steps)
        if moving:
            engine = FollowedEngine(engine, moving)
        loader = Loader(
            plan=plan,
            micro=micro,
            worker=world.data_rank,
            pin=world.device.type == "cuda",
            total_steps=total_steps,
            mismatched=groups.train_mismatched or [],
        )
        held_out = HeldOut(
            groups=groups.held_out,
            mismatched=groups.held_out_mismatched or [],
            datasets=sets.datasets,
            micro=micro,
            engine=engine,
            reference=reference,
            loss=loss,
            world=world,
            stop=self.stop,
        )
        trainer = Trainer(
            seed=config.seed,
            optim=config.optim,
            every=Every(record=config.track.every, evaluate=config.eval.every, save=config.checkpoint.every),
            world=world,
            engine=engine,
            scorer=policy.scorer,
            reference=reference,
            moving=moving,
            loss=loss,
            loader=loader,
            total_steps=total_steps,
            held_out=held_out,
            datasets=sets.datasets,
            sampler=self._sampler(sets),
            drift=self._drift(sets, held_out),
            checkpoints=self.checkpoints,
            stop=self.stop,
            guard=config.guard,
            bad_steps=BadSteps(engine=engine, reference=reference, loss=loss, world=world, file=self.folder.bad_steps),
        )
        return trainer, policy

    def _sampler(self, sets: DataSets) -> Sampler:
        settings = self.config.eval
        check = CHECKERS[settings.checker]
        count = max(settings.samples, settings.checked_prompts if check else 0)
        return Sampler(
            pairs=_first(count, sets),
            n_shown=settings.samples,
            generator=self._generator(),
            check=check,
        )

    def _drift(self, sets: DataSets, held_out: HeldOut) -> SampledDrift:
        pairs = _first(self.config.eval.kl_prompts, sets)
        return SampledDrift(pairs=pairs, generator=self._generator(), held_out=held_out, seed=self.config.seed)

    def _generator(self) -> Generator:
        return Generator(
            max_new_tokens=self.config.eval.max_new_tokens,
            tokenizer=self.text.tokenizer,
            end_of_turn=self.text.template.end_of_turn,
            world=self.world,
            stop=self.stop,
        )

    def _self_check(self, trainer: Trainer, groups: Groups, supplied: bool) -> None:
        checker = SelfCheck(
            engine=trainer.engine,
            scorer=trainer.scorer,
            reference=trainer.reference,
            loss=trainer.loss,
            micro=trainer.loader.micro,
            world=self.world,
        )
        # Of middle length: long enough to meet sliding windows, short enough for the model's own whole logits.
        middle = groups[int(np.argsort(groups.tokens(), kind="stable")[len(groups) // 2])]
        own, policy = self.config.reference, self.config.model
        same_weights = own.path is None or (own.path, own.revision) == (policy.path, policy.revision)
        same_weights &= not supplied  # values that rows bring are close to it, not equal
        log.info("%s", checker.run(trainer.loader.step(0).batches[0], middle, same_weights))

    def _recorder(self, trainer: Trainer) -> Recorder:
        tracker = make_tracker(self.config.track, self.folder.path, self.world.is_main)
        status = read_status(self.folder)
        known_id = status.wandb_id if status and trainer.done.step else None
        wandb_id = tracker.start(as_dict(self.config), self.folder.name, known_id)
        shown = self.config.track.progress and self.world.is_main
        progress = Progress(trainer.total_steps, trainer.done.step, enabled=shown)
        symptoms = Symptoms(self.config.guard, self.config.optim, trainer.loss.beta)
        recorder = Recorder(self.folder, tracker, progress, symptoms, self.world.is_main)
        recorder.status(
            total_steps=trainer.total_steps, step=trainer.done.step, wandb_id=wandb_id, warnings=recorder.warnings
        )
        recorder.catch_up()
        return recorder

    def _end(self, trainer: Trainer, policy: Policy) -> None:
        """Export the model, close the records, show what came of it."""
        self.world.watchdog.moved("the end", limited=False)
        card = model_card(self.config, read_metrics(self.folder.metrics)) if self.world.is_main else ""
        causal_lm, tokenizer = policy.scorer.causal_lm, self.text.tokenizer
        trained = Trained(causal_lm=causal_lm, adapted=policy.adapted, tokenizer=tokenizer, card=card)
        export(trained, self.folder.final, self.world)
        self._close(trainer, "trained and exported")
        self._show(trainer.done.step)

    def _close(self, trainer: Trainer, outcome: str) -> None:
        """Raises CheckpointError when the state of the last step could not be kept."""
        problem = self.checkpoints.problem
        trainer.recorder.close(1 if problem else 0, self._summary())
        if problem:
            raise CheckpointError(
                f"{outcome} after step {trainer.done.step}, but the checkpoint of this step could not be written: "
                f"{problem}. The same command continues from the newest that is there and trains again what it lacks."
            )

    def _show(self, step: int) -> None:
        if self.world.is_main:
            write_status(self.folder, state="done", step=step, why="")
            closing.show(self.folder)

    def _summary(self) -> dict[str, Any]:
        """The last held-out numbers, for the tracker's table of runs."""
        rows = (
            [row for row in read_metrics(self.folder.metrics) if row["split"] == "eval"] if self.world.is_main else []
        )
        return {f"final/{k}": v for row in rows for k, v in row.items() if isinstance(v, float)}


def _first(count: int, sets: DataSets) -> list[TokenizedPair]:
    """Held-out pairs whose prompts are answered."""
    return [sets.held_out[i] for i in range(min(count, len(sets.held_out)))]


def _overview(trainer: Trainer) -> str:
    plan = trainer.loader.plan
    n_micro = len(trainer.loader.step(trainer.done.step).batches)
    return (
        f"training: {plan.n_pairs} pairs, {trainer.total_steps} steps of "
        f"{plan.global_batch_size} pairs, {n_micro} micro-batch{'es' if n_micro > 1 else ''} per step and worker"
    )
