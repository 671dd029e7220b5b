"""The command line of train.py: help, printing the composed configuration, and errors as one message."""

import logging
import signal
import sys
import time

from dpo.config.compose import Composed, as_yaml, choices, compose_run
from dpo.distributed import launcher
from dpo.errors import ConfigError, UserError
from dpo.log import setup_logging

log = logging.getLogger(__name__)

OTHERS_SECONDS = 5.0

HELP = """\
Trains a causal language model by Direct Preference Optimization.

  accelerate launch train.py [group=choice ...] [group.setting=value ...]

  accelerate launch train.py                                          built-in tiny model and demo pairs
  accelerate launch train.py model.path=my-sft-model data.path=pairs.jsonl
  accelerate launch train.py model=qwen7b adapter=lora                UltraFeedback, LoRA, one GPU
  torchrun --nproc_per_node 8 train.py model=qwen7b zero=zero3        the same with any launcher

Groups and their choices:
{groups}

Top-level settings: name, seed, resume=auto|never|<folder>, output_dir, precision=fp32|bf16|fp16, layout=packed|padded

Options:
  --help, -h    this text
  --cfg         print every setting of the composed run with its value, and stop

Every setting is explained in dpo/config/schema.py; the files under conf/ show what each choice sets.
"""


def main(arguments: list[str]) -> int:
    """Run the command line. Returns the exit code: 0 done or stopped on request, 1 failed, 2 wrong configuration."""
    is_main = launcher.rank() == 0
    setup_logging(is_main)
    options = [a for a in arguments if a.startswith("-")]
    overrides = [a for a in arguments if not a.startswith("-")]
    try:
        if {"--help", "-h"} & set(options):
            return _say(_help(), is_main)
        _refuse_options(options)
        composed = compose_run(overrides, launcher.world_size())
        if "--cfg" in options:
            return _say(as_yaml(composed.config), is_main)
        return _train(composed)
    except UserError as error:
        if not is_main:
            # Nearly always all workers meet the same problem; by then the launcher has ended this one. If it has not,
            # the problem is this worker's own (a file that only one node lacks) and nobody else will tell.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # no longer a request to stop at the end of a step
            time.sleep(OTHERS_SECONDS)
        log.error("%s", error if is_main else f"worker {launcher.rank()}: {error}")
        return 2 if isinstance(error, ConfigError) else 1


def _train(composed: Composed) -> int:
    launcher.refuse_foreign_deepspeed()
    from dpo.run import run  # torch and transformers load here: seconds that a wrong word need not wait for

    return run(composed)


def _say(text: str, is_main: bool) -> int:
    if is_main:
        sys.stdout.write(text)
    return 0


def _help() -> str:
    width = max(len(group) for group in choices())
    lines = [f"  {group:<{width}}  {' | '.join(names)}" for group, names in choices().items()]
    return HELP.format(groups="\n".join(lines))


def _refuse_options(options: list[str]) -> None:
    """Raises ConfigError for what this command line does not have, instead of passing it by."""
    problems = []
    for option in options:
        if option in ("--multirun", "-m"):
            problems.append(f"{option}: DeepSpeed can be set up once per process; launch once per setting, in a loop")
        elif option != "--cfg":
            problems.append(f"{option}: no such option; settings are written as group.setting=value (see --help)")
    if problems:
        raise ConfigError(problems)
