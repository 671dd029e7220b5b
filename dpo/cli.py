"""The command line: which command, help, printing the composed configuration, and errors as one message."""

import difflib
import logging
import signal
import sys
import time

from dpo.commands import COMMANDS, Command
from dpo.config.compose import as_yaml, choices, compose_run
from dpo.distributed import launcher
from dpo.errors import ConfigError, UserError
from dpo.log import setup_logging

log = logging.getLogger(__name__)

OTHERS_SECONDS = 20.0  # of a loaded machine until worker 0 has left and the launcher ends the others

HELP = """\
python -m dpo <command> [group=choice ...] [group.setting=value ...]

{commands}

python -m dpo <command> --help explains one. With several processes: accelerate launch -m dpo <command> ..., or
torchrun --nproc_per_node 8 -m dpo <command> ...
"""


def command_line(arguments: list[str]) -> int:
    """`python -m dpo ARGUMENTS`. Returns the exit code, see `main`."""
    is_main = launcher.rank() == 0
    setup_logging(is_main)
    if not arguments or arguments[0] in ("--help", "-h"):
        width = max(len(name) for name in COMMANDS)
        lines = [f"  {command.name:<{width}}  {command.summary}" for command in COMMANDS.values()]
        return _say(HELP.format(commands="\n".join(lines)), is_main)
    name, *rest = arguments
    if name in COMMANDS:
        return main(rest, COMMANDS[name])
    close = difflib.get_close_matches(name, COMMANDS, n=1)
    meant = f" Did you mean {close[0]}?" if close else ""
    log.error("%s: no such command.%s Commands: %s", name, meant, ", ".join(COMMANDS))
    return 2


def main(arguments: list[str], command: Command = COMMANDS["train"]) -> int:
    """Run one command. Returns the exit code: 0 done or stopped on request, 1 failed, 2 wrong configuration."""
    is_main = launcher.rank() == 0
    setup_logging(is_main)
    options = [a for a in arguments if a.startswith("-")]
    words = [a for a in arguments if a not in options and "=" not in a] if command.words else []
    overrides = [a for a in arguments if a not in options and a not in words]
    try:
        if {"--help", "-h"} & set(options):
            return _say(_usage(command), is_main)
        _refuse_options(options)
        if command.sweeps:
            return command.sweeps(overrides) if is_main else 0
        composed = compose_run(overrides, launcher.world_size())
        if "--cfg" in options:
            return _say(as_yaml(composed.config), is_main)
        if command.alone and not is_main:
            return 0
        assert command.run is not None
        return command.run(composed, words)
    except UserError as error:
        if not is_main:
            # Nearly always all workers meet the same problem; by then the launcher has ended this one. If it has not,
            # the problem is this worker's own (a file that only one node lacks) and nobody else will tell.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # no longer a request to stop at the end of a step
            time.sleep(OTHERS_SECONDS)
        log.error("%s", error if is_main else f"worker {launcher.rank()}: {error}")
        return 2 if isinstance(error, ConfigError) else 1


def _say(text: str, is_main: bool) -> int:
    if is_main:
        sys.stdout.write(text)
    return 0


def _usage(command: Command) -> str:
    width = max(len(group) for group in choices())
    lines = [f"  {group:<{width}}  {' | '.join(names)}" for group, names in choices().items()]
    return command.usage.format(groups="\n".join(lines))


def _refuse_options(options: list[str]) -> None:
    """Raises ConfigError for what this command line does not have, instead of passing it by."""
    problems = []
    for option in options:
        if option in ("--multirun", "-m"):
            problems.append(
                f"{option}: DeepSpeed can be set up once per process, so a sweep is one launch per run: "
                "python -m dpo sweep loss=sigmoid,ipo loss.beta=0.1,0.5"
            )
        elif option != "--cfg":
            name = option.partition("=")[0]  # alone: who writes --hf_token=... does not want to read it again
            problems.append(f"{name}: no such option; settings are written as group.setting=value (see --help)")
    if problems:
        raise ConfigError(problems)
