"""The README stays true: its commands compose, the files it names exist, and so do the metrics it explains."""

import re
import shlex
from pathlib import Path

import pytest

from dpo.config.checks import check
from dpo.config.compose import compose_run
from dpo.losses.table import loss_table
from dpo.metrics import MEANS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()
BLOCKS = "\n".join(re.findall(r"^```\w*\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL))
COMMANDS = [line for line in BLOCKS.splitlines() if re.search(r"(train\.py|local\.sh|dpo reference) .*=", line)]


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 4


@pytest.mark.parametrize("command", COMMANDS)
def test_command_composes(command: str) -> None:
    words = shlex.split(command, comments=True)
    start = next(i for i, word in enumerate(words) if word.endswith(("train.py", "local.sh", "reference")))
    check(compose_run(words[start + 1 :], world_size=1).config)


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\bmake ([a-z-]+)", TEXT):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_named_files_exist() -> None:
    for path in re.findall(r"\b(?:dpo|conf|launch|benchmarks)/[\w/.]*", TEXT):
        assert (ROOT / path.rstrip(".")).exists(), path


def test_every_metric_is_explained() -> None:
    assert [name for name in MEANS if f"`{name}`" not in TEXT] == []


def test_the_table_of_losses_is_the_registry() -> None:
    """Between its two comment lines. To renew it:
    `python -c 'from dpo.losses.table import *; print(loss_table())'`"""
    _, rest = TEXT.split("<!-- losses, made by dpo/losses/table.py -->\n")
    assert rest.split("<!-- end of losses -->")[0].strip() == loss_table().strip()
