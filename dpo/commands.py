"""Everything that `python -m dpo` can do: one entry per command. train.py is the entry `train`.

Heavy imports stand in the functions: torch and transformers take seconds that a wrong word need not wait for.
"""

import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dpo import usage
from dpo.config.compose import Composed
from dpo.distributed import launcher
from dpo.errors import ConfigError
from dpo.preempt import StopRequest


@dataclass(kw_only=True, slots=True)
class Command:
    """What follows `python -m dpo`: a name, perhaps words of its own, then settings as in train.py."""

    name: str
    summary: str  # one line
    words: str = ""  # the words of its own, for --help; none: settings only
    usage: str  # --help; {groups} stands for the groups and their choices
    run: Callable[[Composed, list[str]], int] | None = None  # settings and words -> exit code
    raw: Callable[[list[str], list[str]], int] | None = None  # or: settings as they are given, which it composes itself
    options: tuple[str, ...] = ()  # besides --help and --cfg; they come with the words
    alone: bool = False  # one process does it, whatever the launcher started


def _train(composed: Composed, words: list[str]) -> int:
    launcher.refuse_foreign_deepspeed()
    stop = _listen()
    from dpo.run import run

    return run(composed, stop)


def _reference(composed: Composed, words: list[str]) -> int:
    launcher.refuse_foreign_deepspeed()
    stop = _listen()
    from dpo.run_reference import run_reference

    return run_reference(composed, stop)


def _prepare(composed: Composed, words: list[str]) -> int:
    stop = _listen()
    from dpo.run_prepare import run_prepare

    sys.stdout.write(run_prepare(composed, stop))
    return 0


def _listen() -> StopRequest:
    """Before the imports: a job that is asked to stop in its first seconds leaves as cleanly as later."""
    stop = StopRequest()
    stop.install()
    launcher.leave_with_launcher(signal.SIGKILL)
    return stop


def _cache(composed: Composed, words: list[str]) -> int:
    from dpo.config.derive import cache_dir
    from dpo.reference import listing

    folder = Path(cache_dir(composed.config))
    action, which = words[0] if words else "", words[1:]
    if action == "ls" and not which:
        text, good = listing.list_kept(folder), True
    elif action == "verify" and len(which) < 2:
        text, good = listing.verify_kept(folder, which[0] if which else "all")
    elif action == "rm" and len(which) == 1:
        text, good = listing.remove_kept(folder, which[0]), True
    else:
        raise ConfigError([f"cache {' '.join(words)}: expected {COMMANDS['cache'].words}"])
    sys.stdout.write(text)
    return 0 if good else 1


def _plan_step(composed: Composed, words: list[str]) -> int:
    from dpo.run_plan import plan_step

    if len(words) not in (1, 2) or not all(word.isascii() and word.isdigit() and int(word) > 0 for word in words):
        raise ConfigError(
            [f"plan-step {' '.join(words)}: expected {COMMANDS['plan-step'].words}, whole numbers from 1"]
        )
    step, workers = int(words[0]), int(words[1]) if len(words) == 2 else launcher.world_size()
    sys.stdout.write(plan_step(composed, step, workers))
    return 0


def _checkpoints(composed: Composed, words: list[str]) -> int:
    from dpo.checkpoint import listing

    config = composed.config
    action, which = words[0] if words else "", [Path(word) for word in words[1:]]
    if config.name:
        which.append(Path(config.output_dir) / config.name)
    if action not in ("ls", "verify", "prune") or len(which) > 1 or (action == "prune" and not which):
        raise ConfigError([f"checkpoints {' '.join(words)}: expected {COMMANDS['checkpoints'].words}"])
    runs = [listing.run_folder(path) for path in which] or listing.runs_in(Path(config.output_dir))
    good = True
    if not runs:
        text = f"no run in {config.output_dir} has checkpoints\n"
    elif action == "ls":
        text = listing.list_checkpoints(runs, config.checkpoint)
    elif action == "verify":
        text, good = listing.verify_checkpoints(runs)
    else:
        text = listing.prune_checkpoints(runs[0], config.checkpoint)
    sys.stdout.write(text)
    return 0 if good else 1


def _plan(composed: Composed, words: list[str]) -> int:
    from dpo.run_planner import run_planner

    sys.stdout.write(run_planner(composed))
    return 0


def _sweep(overrides: list[str], words: list[str]) -> int:
    from dpo.run_sweep import run_sweep

    text, whole = run_sweep(overrides)
    sys.stdout.write(text)
    return 0 if whole else 1


def _submit(overrides: list[str], words: list[str]) -> int:
    from dpo.run_submit import run_submit

    sys.stdout.write(run_submit(overrides, words))
    return 0


def _compare(composed: Composed, words: list[str]) -> int:
    from dpo.compare import compare
    from dpo.records import RunFolder

    if len(words) < 2:
        raise ConfigError([f"compare {' '.join(words)}: expected {COMMANDS['compare'].words}"])
    picture = Path(composed.config.output_dir) / "comparison.png"
    sys.stdout.write(compare([RunFolder(Path(word)) for word in words], picture))
    return 0


def _status(composed: Composed, words: list[str]) -> int:
    from dpo.run_status import run_status

    text, code = run_status(composed, words)
    sys.stdout.write(text)
    return code


def _verify(composed: Composed, words: list[str]) -> int:
    from dpo.config.checks import check
    from dpo.records import RunFolder
    from dpo.verify import verify

    config = composed.config
    if config.name and not words:
        words = [str(Path(config.output_dir) / config.name)]
    if len(words) != 1:
        raise ConfigError([f"verify {' '.join(words)}: expected {COMMANDS['verify'].words}"])
    check(config)
    text, good = verify(RunFolder(Path(words[0])), config.expect)
    sys.stdout.write(text)
    return 0 if good else 1


def _report(composed: Composed, words: list[str]) -> int:
    stop = _listen()
    from dpo.run_report import report_data

    sys.stdout.write(report_data(composed, stop))
    return 0


def _doctor(composed: Composed, words: list[str]) -> int:
    from dpo.run_doctor import run_doctor

    return 0 if run_doctor(composed) else 1


COMMANDS = {
    command.name: command
    for command in (
        Command(name="train", summary="train a model, as train.py does", usage=usage.TRAIN, run=_train),
        Command(
            name="plan",
            summary="say whether a run fits and how long it takes, before it is queued",
            usage=usage.PLAN,
            run=_plan,
            alone=True,
        ),
        Command(
            name="prepare",
            summary="read, check and tokenize the pairs and keep them, nothing else",
            usage=usage.PREPARE,
            run=_prepare,
            alone=True,
        ),
        Command(
            name="report",
            summary="show what is in the data and what is wrong with it",
            usage=usage.REPORT,
            run=_report,
            alone=True,
        ),
        Command(
            name="reference",
            summary="compute and keep the reference log-probabilities, nothing else",
            usage=usage.REFERENCE,
            run=_reference,
        ),
        Command(
            name="cache",
            summary="list, verify or remove what is kept of them",
            words="ls | verify [<digits>|all] | rm <digits>|all",
            usage=usage.CACHE,
            run=_cache,
            alone=True,
        ),
        Command(
            name="plan-step",
            summary="show which pairs a step trains on, and where",
            words="<step> [<workers>]",
            usage=usage.PLAN_STEP,
            run=_plan_step,
            alone=True,
        ),
        Command(
            name="checkpoints",
            summary="list, verify or remove the checkpoints of runs",
            words="ls [<run folder>] | verify [<run folder>] | prune <run folder>",
            usage=usage.CHECKPOINTS,
            run=_checkpoints,
            alone=True,
        ),
        Command(
            name="sweep",
            summary="start one run per combination of settings and compare them",
            usage=usage.SWEEP,
            raw=_sweep,
            alone=True,
        ),
        Command(
            name="submit",
            summary="put a run, a reference pass or a sweep into the queue of a Slurm cluster",
            words="[train|reference|sweep]",
            usage=usage.SUBMIT,
            raw=_submit,
            options=("--dry-run",),
            alone=True,
        ),
        Command(
            name="compare",
            summary="show finished runs beside each other",
            words="<run folder> <run folder> ...",
            usage=usage.COMPARE,
            run=_compare,
            alone=True,
        ),
        Command(
            name="status",
            summary="show how far a run is and how it ended",
            words="[<run folder>]",
            usage=usage.STATUS,
            run=_status,
            alone=True,
        ),
        Command(
            name="verify",
            summary="compare a finished run with the numbers that its experiment expects",
            words="<run folder>",
            usage=usage.VERIFY,
            run=_verify,
            alone=True,
        ),
        Command(
            name="doctor",
            summary="check this node before a job",
            usage=usage.DOCTOR,
            run=_doctor,
            alone=True,
        ),
    )
}
