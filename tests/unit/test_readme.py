"""The README stays true: its commands compose, the files it names exist, and so do the metrics it explains."""

import re
import shlex
from pathlib import Path

import pytest

from dpo.config.checks import check
from dpo.config.compose import compose_run
from dpo.data.formats.table import FORMATS, format_table
from dpo.losses.table import loss_table
from dpo.metric_table import metric_table

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()
BLOCKS = "\n".join(re.findall(r"^```\w*\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL))
STARTS = re.compile(r"(train\.py|local\.sh|dpo reference|dpo report) .*=")
COMMANDS = [line for line in BLOCKS.splitlines() if STARTS.search(line)]


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 4


@pytest.mark.parametrize("command", COMMANDS)
def test_command_composes(command: str) -> None:
    words = shlex.split(command, comments=True)
    start = next(i for i, word in enumerate(words) if word.endswith(("train.py", "local.sh", "reference", "report")))
    check(compose_run(words[start + 1 :], world_size=1).config)


def test_the_table_of_formats_is_the_registry() -> None:
    """`python -c 'from dpo.data.formats.table import *; print(format_table())'`"""
    _, rest = (ROOT / "docs" / "DATA.md").read_text().split("<!-- formats, made by dpo/data/formats/table.py -->\n")
    assert rest.split("<!-- end of formats -->")[0].strip() == format_table()


def test_the_number_of_formats() -> None:
    assert f"any of {len(FORMATS)} formats" in TEXT


def test_presets_of_data_are_named() -> None:
    text = TEXT + (ROOT / "docs" / "DATA.md").read_text()
    known = {path.stem for path in (ROOT / "conf" / "data").glob("*.yaml")} - {"files", "demo"}
    assert [name for name in sorted(known) if f"`{name}`" not in text and f"data={name}`" not in text] == []


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\bmake ([a-z-]+)", TEXT):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_named_files_exist() -> None:
    for path in re.findall(r"\b(?:dpo|conf|launch|benchmarks)/[\w/.]*", TEXT):
        assert (ROOT / path.rstrip(".")).exists(), path


def test_the_table_of_metrics_is_the_registry() -> None:
    """To renew it: `python -c 'from dpo.metric_table import *; print(metric_table())'`"""
    _, rest = TEXT.split("<!-- metrics, made by dpo/metric_table.py -->\n")
    assert rest.split("<!-- end of metrics -->")[0].strip() == metric_table().strip()


def test_the_table_of_losses_is_the_registry() -> None:
    """Between its two comment lines. To renew it:
    `python -c 'from dpo.losses.table import *; print(loss_table())'`"""
    _, rest = TEXT.split("<!-- losses, made by dpo/losses/table.py -->\n")
    assert rest.split("<!-- end of losses -->")[0].strip() == loss_table().strip()
