"""Worker: this project trains, started as train.py starts it, and is stopped where saving would begin."""

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from comparison import memory
from comparison.jobs import Job, Measured, answer, digest, read_job
from comparison.machine import now
from dpo.config.compose import compose_run
from dpo.data.loader import Loader, PreparedStep
from dpo.preempt import StopRequest
from dpo.reference.compute import Pass
from dpo.run import run
from dpo.trainer import Trainer


class LastStepDone(BaseException):
    """Thrown out of the trainer: checkpoint and export are no part of the measurement. No Exception, so that nobody
    takes it for a failure."""


@dataclass(kw_only=True, slots=True)
class Clock:
    """Looks at the trainer between its steps."""

    job: Job
    trainer: Trainer | None = None
    first: dict[str, float] = field(default_factory=dict)  # means of the first step
    start: float = 0.0
    end: float = 0.0
    spent: dict[str, float] = field(default_factory=dict)  # seconds inside the engine and the reference, per step
    pass_seconds: float = 0.0  # of the reference's pass before the first step
    computed: dict[int, int] = field(default_factory=dict)  # tokens of every step, padding included

    def watch(self) -> None:
        """Put the clock around the trainer's steps."""
        train, prepare, fill = Trainer.train, Loader.step, Pass.run

        def timed(trainer: Trainer) -> None:
            self._before(trainer)
            train(trainer)
            self._after(trainer)

        def counted(loader: Loader, step: int) -> PreparedStep:
            prepared = prepare(loader, step)
            self.computed[step] = sum(batch.ids.numel() for batch in prepared.batches)
            return prepared

        def filled(reference_pass: Pass, *given: Any) -> None:
            start = now()
            fill(reference_pass, *given)
            self.pass_seconds = now() - start

        Trainer.train, Loader.step, Pass.run = timed, counted, filled  # type: ignore[assignment, method-assign]

    def _before(self, trainer: Trainer) -> None:
        if self.trainer is None:
            self.trainer = trainer
            if trainer.world.device.type == "cpu":  # on a GPU these calls return before their work is done
                trainer.engine = Inside(trainer.engine, self.spent, "engine", "forward", "backward", "step")
                trainer.reference = Inside(trainer.reference, self.spent, "reference", "logps")
        steps_per_epoch = trainer.total_steps // (self.job.warmup_epochs + self.job.epochs)
        if trainer.done.step == self.job.warmup_epochs * steps_per_epoch:
            self.spent |= dict.fromkeys(self.spent, 0.0)
            self.start = now()

    def _after(self, trainer: Trainer) -> None:
        if trainer.done.step == 1:
            self.first = trainer.window.stats.record(trainer.loss)
        if trainer.done.step == trainer.total_steps:
            self.end = now()
            raise LastStepDone


class Inside:
    """Anything, with some of its methods timed."""

    def __init__(self, whole: Any, spent: dict[str, float], role: str, *methods: str):
        self._whole, self._spent, self._role = whole, spent, role
        spent[role] = 0.0
        for name in methods:
            setattr(self, name, self._timed(getattr(whole, name)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)

    def _timed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            result = method(*args, **kwargs)
            self._spent[self._role] += time.perf_counter() - start
            return result

        return call


def main() -> None:
    job = read_job()
    baseline = memory.start_peak()
    clock = Clock(job=job)
    clock.watch()
    try:
        run(compose_run(overrides(job), int(os.environ.get("WORLD_SIZE", "1"))), StopRequest())
    except LastStepDone:
        answer(job, asdict(measured(clock, baseline)))


def overrides(job: Job) -> list[str]:
    """The command line: defaults but for what both sides share, and `optim.micro_batch_tokens`."""
    common = [
        f"model.path={job.model}",
        "model.chat_template=raw",
        f"data.path={job.pairs}",
        f"data.max_length={job.max_length}",
        f"adapter={job.adapter}",
        f"precision={job.precision}",
        f"optim.lr={job.lr}",
        "optim.scheduler=constant",
        "optim.warmup_ratio=0",
        f"optim.epochs={job.warmup_epochs + job.epochs}",
        f"optim.global_batch_size={job.global_batch}",
        f"output_dir={job.folder}/outputs",
        "name=run",
        "eval.fraction=0",
        "eval.samples=0",
        "track.every=1000000",
        "track.wandb=off",
        "track.progress=false",
    ]
    reference = [f"reference.path={job.reference}"] if job.reference else []
    return [*common, *reference, *(f"{key}={value}" for key, value in job.settings.items())]


def measured(clock: Clock, baseline: float) -> Measured:
    trainer, spent = clock.trainer, clock.spent
    assert trainer is not None
    mine = [clock.end - clock.start, memory.peak_gib(), float(sum(clock.computed.values()))]
    everyone = trainer.world.gather(torch.tensor(mine, dtype=torch.float64, device=trainer.world.device))
    seconds, peak, _ = everyone.amax(0).tolist()
    groups = trainer.loader.plan.groups
    return Measured(
        seconds=seconds,
        reference_seconds=clock.pass_seconds or (spent["reference"] / clock.job.epochs if spent else None),
        baseline_gib=baseline,
        peak_gib=peak,
        computed_tokens=round(everyone[:, 2].sum().item()) // (clock.job.warmup_epochs + clock.job.epochs),
        inputs=digest((g.prompt_ids, g.responses[c], g.responses[r]) for g in groups for c, r in g.pairs),
        loss=clock.first["loss"],
        chosen_logps=clock.first["logps/chosen"],
        overhead=1 - sum(spent.values()) / seconds if spent else None,
    )


if __name__ == "__main__":
    main()
