"""`python -m dpo plan-step` names the pairs that a run then trains on."""

import re
from pathlib import Path

import pytest

from dpo import cli
from launch import TWENTY, Ended

pytestmark = pytest.mark.run


def test_the_batch_is_the_one_in_the_metrics(
    one: Ended, two: Ended, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In both epochs, and for any number of workers."""
    monkeypatch.setattr(cli, "setup_logging", lambda is_main: None)  # the test's stays as it is
    settings = [text for text in TWENTY if not text.startswith("output_dir")]
    for workers, ended, number in (("1", one, 20), ("2", two, 1)):
        assert cli.command_line(["plan-step", str(number), workers, *settings, f"output_dir={tmp_path}"]) == 0
        said = capsys.readouterr().out
        row = ended.train[number - 1]
        assert re.match(rf"step {number}: batch {row['batch']}, ", said)
        assert f"epoch {row['epoch']} at its end" in said
