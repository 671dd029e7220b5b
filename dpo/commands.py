"""Everything that `python -m dpo` can do: one entry per command. train.py is the entry `train`.

Heavy imports stand in the functions: torch and transformers take seconds that a wrong word need not wait for.
"""

import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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
    run: Callable[[Composed, list[str]], int]  # settings and words -> exit code
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


def _report(composed: Composed, words: list[str]) -> int:
    stop = _listen()
    from dpo.run_report import report_data

    sys.stdout.write(report_data(composed, stop))
    return 0


TRAIN = """\
Trains a causal language model by Direct Preference Optimization.

  accelerate launch train.py [group=choice ...] [group.setting=value ...]

  accelerate launch train.py                                          built-in tiny model and demo pairs
  accelerate launch train.py model.path=my-sft-model data.path=pairs.jsonl
  accelerate launch train.py model=qwen7b adapter=lora                UltraFeedback, LoRA, one GPU
  torchrun --nproc_per_node 8 train.py model=qwen7b zero=zero3        the same with any launcher

Other commands: python -m dpo --help

Groups and their choices:
{groups}

Top-level settings: name, seed, resume=auto|never|<folder>, output_dir, precision=fp32|bf16|fp16, layout=packed|padded

Options:
  --help, -h    this text
  --cfg         print every setting of the composed run with its value, and stop

Every setting is explained in dpo/config/schema.py; the files under conf/ show what each choice sets.
"""

PREPARE = """\
Reads, checks and tokenizes the pairs of a run, in parallel, and keeps them: no weights, no GPU. train.py does the same
by itself before its first step; alone it serves a sweep, or a machine with many cores and no GPU.

  python -m dpo prepare model.path=my-sft-model data.path=pairs.jsonl
  python -m dpo prepare model=qwen7b data.cache_dir=/shared/data data.workers=16

Settings are those of train.py (python -m dpo train --help). Only those of the data, the tokenizer and the chat template
decide what is found again. Exit code 1 when rows are bad and data.on_bad_row is not skip.
"""

REFERENCE = """\
Computes the reference log-probabilities that a run will need and keeps them: no policy, no optimizer. train.py does
the same by itself before its first step; alone it serves a sweep, or fills a cache on other machines.

  python -m dpo reference model.path=my-sft-model data.path=pairs.jsonl
  torchrun --nproc_per_node 8 -m dpo reference model=qwen7b reference.cache_dir=/shared/reference

Settings are those of train.py (python -m dpo train --help). Only those of the data, the reference's weights and
precision= decide what is found again. A pass that was stopped or killed continues where it was.
"""

CACHE = """\
Shows and clears the reference log-probabilities that were kept.

  python -m dpo cache ls                      one line per model and precision
  python -m dpo cache verify [<digits>|all]   read everything again; exit code 1 when a part is damaged
  python -m dpo cache rm <digits>|all         remove: the first digits of a fingerprint that `ls` shows

  reference.cache_dir=<folder>                another cache than outputs/reference_cache
"""

PLAN_STEP = """\
Shows the pairs of one optimizer step: their ids, tokens and places in the data, which worker computes them in which
forward pass, and how full that is. Reads the data and the tokenizer; no weights are loaded, nothing is trained.

  python -m dpo plan-step 137 model.path=my-sft-model data.path=pairs.jsonl
  python -m dpo plan-step 137 8 model=qwen7b       as 8 workers share it out

Steps are counted as in metrics.jsonl: 1 is the first, and "batch" there is the batch shown here. The pairs of a step
and their order depend on seed, data and optim.global_batch_size alone; only their places on the number of workers.
Settings are those of train.py (python -m dpo train --help).
"""

CHECKPOINTS = """\
Shows, reads and removes the checkpoints of runs.

  python -m dpo checkpoints ls [<run folder>]       step, size, whether all files are there, held-out metric, age
  python -m dpo checkpoints verify [<run folder>]   read every file again; exit code 1 when one is damaged
  python -m dpo checkpoints prune <run folder>      keep the newest and the best that are whole, remove the others

  <run folder>                     as outputs/<name>; name=<name> says the same; without: every run in outputs
  output_dir=<folder>              another folder of runs
  checkpoint.keep=<n>              prune: how many of the newest stay
  checkpoint.best=<metric>|null    ls, prune: loss, rewards/accuracies or rewards/margins
"""

REPORT = """\
Looks at the data before GPU hours are spent on it: what lengths give away, contradictions, repetition, refusals,
languages, limits, and the pairs to read. Writes one HTML page, and a JSON file with the same numbers. Reads the data
and the tokenizer; no weights are loaded, nothing is trained.

  python -m dpo report model.path=my-sft-model data.path=pairs.jsonl
  python -m dpo report model=qwen7b data=ultrafeedback data.limit=5000

  output_dir=<folder>              writes to <folder>/data_reports instead of outputs/data_reports

Settings are those of train.py (python -m dpo train --help). Rows that cannot be used are counted and shown, and do not
stop the report.
"""

PLAN = """\
Says before a run is queued whether it fits and how long it takes: memory per GPU by part, host memory, disk,
operations, traffic, time and cost. No GPU, no weights; no network where the model is on this machine or conf/model
states its shape.

  python -m dpo plan model=qwen7b zero=zero3 plan.gpus=8 plan.gpu=h100-80gb plan.pairs=61135
  python -m dpo plan model=qwen7b plan.gpus=8 plan.search=true plan.goal=cheapest
  python -m dpo plan model=qwen72b plan.scaling=true

  plan.gpu=a10g|rtx4090|l40s|a100-40gb|a100-80gb|h100-80gb|h200-141gb|b200|mi300x
  plan.gpus, plan.gpus_per_node, plan.network_gbps, plan.host_gib     the machines
  plan.pairs, plan.prompt_tokens, plan.answer_tokens                  the data, where `dpo report` has not measured it
  plan.efficiency=0.45             share of the GPU's matrix throughput that you measured
  plan.search=true                 micro-batch, ZeRO stage, offload, checkpointing, shared rows, number of GPUs
  plan.scaling=true                the same run on 8 to 1024 GPUs

Settings are those of train.py (python -m dpo train --help), which prints the short form when it starts.
"""

COMMANDS = {
    command.name: command
    for command in (
        Command(name="train", summary="train a model, as train.py does", usage=TRAIN, run=_train),
        Command(
            name="plan",
            summary="say whether a run fits and how long it takes, before it is queued",
            usage=PLAN,
            run=_plan,
            alone=True,
        ),
        Command(
            name="prepare",
            summary="read, check and tokenize the pairs and keep them, nothing else",
            usage=PREPARE,
            run=_prepare,
            alone=True,
        ),
        Command(
            name="report",
            summary="show what is in the data and what is wrong with it",
            usage=REPORT,
            run=_report,
            alone=True,
        ),
        Command(
            name="reference",
            summary="compute and keep the reference log-probabilities, nothing else",
            usage=REFERENCE,
            run=_reference,
        ),
        Command(
            name="cache",
            summary="list, verify or remove what is kept of them",
            words="ls | verify [<digits>|all] | rm <digits>|all",
            usage=CACHE,
            run=_cache,
            alone=True,
        ),
        Command(
            name="plan-step",
            summary="show which pairs a step trains on, and where",
            words="<step> [<workers>]",
            usage=PLAN_STEP,
            run=_plan_step,
            alone=True,
        ),
        Command(
            name="checkpoints",
            summary="list, verify or remove the checkpoints of runs",
            words="ls [<run folder>] | verify [<run folder>] | prune <run folder>",
            usage=CHECKPOINTS,
            run=_checkpoints,
            alone=True,
        ),
    )
}
