"""Trains as train.py does, several times in one process, and asks itself to stop at chosen moments:

    stopping.py "RUN/MOMENT@STEP:HOW ..." WORKER OVERRIDES

RUN becomes name=; MOMENT is one of `MOMENTS` below or - for a run that nobody disturbs; HOW is a signal that the one
WORKER sends to itself, `file` or `deadline`. Prints `STATUS {...}`, the status.json of each. All the while the
machine's clock is set back by an hour each time somebody asks for it.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dpo.build_reference
import dpo.data.store.work
import dpo.evaluate.held_out
import dpo.run
import dpo.trainer
from dpo import cli
from dpo.checkpoint.save import Checkpoints
from dpo.distributed import launcher
from dpo.evaluate.generate import Generator
from dpo.model.reference import FrozenReference
from dpo.preempt import StopRequest
from dpo.trainer import Trainer

DEADLINE = "3s"
# How often the moment passes until the request comes: in the midst of it.
MOMENTS = {
    "tokenizing": 40,
    "fingerprint": 1,
    "reference": 2,
    "loading": 1,
    "evaluation": 2,
    "generation": 3,
    "accumulation": 2,
    "saving": 1,
    "exporting": 1,
}


@dataclass(kw_only=True, slots=True)
class Item:
    """One run of the list."""

    run: str
    moment: str
    step: int | None
    how: str
    left: int

    @classmethod
    def parse(cls, text: str) -> "Item":
        run, _, rest = text.partition("/")
        rest, _, how = rest.partition(":")
        moment, _, step = rest.partition("@")
        return cls(run=run, moment=moment, step=int(step) if step else None, how=how, left=MOMENTS.get(moment, -1))


@dataclass(kw_only=True, slots=True)
class Now:
    """The run under way."""

    item: Item
    worker: int
    trainer: Trainer | None = None
    stop: StopRequest | None = None

    def passing(self, moment: str) -> None:
        step = self.trainer.done.step if self.trainer else None
        if moment != self.item.moment or self.item.step not in (None, step):
            return
        self.item.left -= 1
        if self.item.left == 0:
            self.ask()

    def ask(self) -> None:
        """Returns when the request has arrived, if it was sent to this worker at all."""
        assert self.stop is not None
        if self.item.how == "file":
            Path(self.item.run, "STOP").touch()
        elif self.item.how != "deadline":
            if launcher.rank() != self.worker:
                return
            os.kill(os.getpid(), signal.Signals[self.item.how])
        while not self.stop.requested():
            time.sleep(0.01)


def noted(moment: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def noting(*args: Any, **kwargs: Any) -> Any:
        now.passing(moment)
        return function(*args, **kwargs)

    return noting


def each(moment: str, values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        now.passing(moment)
        yield value


def watch() -> None:
    work, reference, held_out, run, trainer = (
        dpo.data.store.work,
        dpo.build_reference,
        dpo.evaluate.held_out,
        dpo.run,
        dpo.trainer,
    )
    tokenize, step, generate = work.tokenize_pairs, trainer.train_step, Generator._generate
    work.tokenize_pairs = lambda *args: each("tokenizing", tokenize(*args))
    reference.fingerprint = noted("fingerprint", reference.fingerprint)
    FrozenReference.logps = noted("reference", FrozenReference.logps)
    run.build_policy = noted("loading", run.build_policy)
    held_out.look = noted("evaluation", held_out.look)

    def accumulating(engine: Any, reference: Any, work: Any, *rest: Any) -> Any:
        return step(engine, reference, replace(work, batches=lambda: each("accumulation", work.batches())), *rest)

    trainer.train_step = accumulating
    Checkpoints.save = noted("saving", Checkpoints.save)
    run.export = noted("exporting", run.export)

    def generating(generator: Generator, model: Any, *rest: Any) -> Any:
        handle = model.register_forward_hook(lambda *_: now.passing("generation"))
        try:
            return generate(generator, model, *rest)
        finally:
            handle.remove()

    Generator._generate = generating


def remember() -> None:
    run, install = Trainer.run, StopRequest.install

    def running(trainer: Trainer) -> None:
        now.trainer = trainer
        run(trainer)

    def installing(stop: StopRequest) -> None:
        now.stop = stop
        install(stop)

    Trainer.run, StopRequest.install = running, installing


def backwards() -> float:
    clock[0] -= 3600
    return clock[0]


clock = [time.time()]
time.time = backwards
items, worker, *overrides = sys.argv[1:]
watch()
remember()
for item in [Item.parse(text) for text in items.split()]:
    now = Now(item=item, worker=int(worker))
    deadline = [f"checkpoint.deadline={DEADLINE}"] if item.how == "deadline" else []
    caches = [f"reference.cache_dir=cache-{item.run}", f"data.cache_dir=data-{item.run}"]
    own = [f"name={item.run}", "output_dir=.", *caches]
    code = cli.main([*overrides, *deadline, *own])
    if code:
        sys.exit(code)
    if launcher.rank() == 0:
        status = json.loads(Path(item.run, "status.json").read_text())
        sys.stdout.write(f"STATUS {json.dumps(status)}\n")
        sys.stdout.flush()
