"""Worker: this project trains, started as train.py starts it, and is stopped where saving would begin."""

import os
import time
from dataclasses import asdict, dataclass, field

import torch

from comparison import memory
from comparison.jobs import Job, Measured, answer, digest, read_job
from dpo.config.compose import compose_run
from dpo.data.collate import collate
from dpo.run import run
from dpo.trainer import Trainer


class LastStepDone(BaseException):
    """Thrown out of the trainer: checkpoint and export are no part of the measurement. No Exception, so that nobody
    takes it for a failure."""


@dataclass(kw_only=True, slots=True)
class Clock:
    """Stands in for `Trainer.train` and looks at the clock between its steps."""

    job: Job
    start: float = 0.0
    first: dict[str, float] = field(default_factory=dict)  # means of the first step
    end: float = 0.0
    trainer: Trainer | None = None

    def watch(self) -> None:
        train = Trainer.train

        def timed(trainer: Trainer) -> None:
            steps_per_epoch = trainer.total_steps // (self.job.warmup_epochs + self.job.epochs)
            if trainer.done.step == self.job.warmup_epochs * steps_per_epoch:
                self.start = now()
            train(trainer)
            if trainer.done.step == 1:
                self.first = trainer.window.stats.record(trainer.loss)
            if trainer.done.step == trainer.total_steps:
                self.end, self.trainer = now(), trainer
                raise LastStepDone

        Trainer.train = timed  # type: ignore[method-assign]


def now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def main() -> None:
    job = read_job()
    baseline = memory.start_peak()
    clock = Clock(job=job)
    clock.watch()
    try:
        run(compose_run(overrides(job), int(os.environ.get("WORLD_SIZE", "1"))))
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
    trainer = clock.trainer
    assert trainer is not None
    groups = trainer.plan.groups
    rows = [row for step in range(len(trainer.plan._epoch_batches(0))) for row in trainer.rows(trainer.plan.step(step))]
    return Measured(
        seconds=clock.end - clock.start,
        reference_seconds=None,
        baseline_gib=baseline,
        peak_gib=memory.peak_gib(),
        computed_tokens=sum(collate([groups[g] for g in row], trainer.micro.layout).ids.numel() for row in rows),
        inputs=digest((g.prompt_ids, g.responses[c], g.responses[r]) for g in groups for c, r in g.pairs),
        loss=clock.first["loss"],
        chosen_logps=clock.first["logps/chosen"],
    )


if __name__ == "__main__":
    main()
