"""`python -m dpo`: which commands there are, what they say of themselves, and `cache` from end to end."""

import logging
from pathlib import Path

import numpy as np
import pytest

from dpo import cli
from dpo.commands import COMMANDS
from dpo.reference.store import Fingerprint, Store, Values, parts_of

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def own_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's logging stays as it is."""
    monkeypatch.setattr(cli, "setup_logging", lambda is_main: None)
    monkeypatch.setattr(logging.getLogger("dpo"), "propagate", True)


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--help"], ["-h"]):
        assert cli.command_line(arguments) == 0
        said = capsys.readouterr().out
        assert [c.name for c in COMMANDS.values() if f"  {c.name} " not in said or c.summary not in said] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.command_line([name, "--help"]) == 0
    said = capsys.readouterr().out
    assert f"dpo {name}" in said or "train.py" in said
    assert "{" not in said


def test_a_slip_in_the_name(caplog: pytest.LogCaptureFixture) -> None:
    assert cli.command_line(["refrence"]) == 2
    assert "Did you mean reference?" in caplog.text


@pytest.mark.parametrize(
    "words", [[], ["rm"], ["ls", "ab"], ["rm", "ab", "cd"], ["remove", "ab"], ["verify", "a", "b"]]
)
def test_cache_with_other_words(words: list[str], caplog: pytest.LogCaptureFixture) -> None:
    assert cli.command_line(["cache", *words]) == 2
    assert "ls | verify [<digits>|all] | rm <digits>|all" in caplog.text


def test_words_are_refused_where_a_command_has_none(caplog: pytest.LogCaptureFixture) -> None:
    assert cli.command_line(["reference", "now"]) == 2
    assert "`now`" in caplog.text


def test_cache_from_end_to_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def cache(*words: str) -> tuple[int, str]:
        code = cli.command_line(["cache", *words, f"output_dir={tmp_path}"])
        return code, capsys.readouterr().out

    folder = tmp_path / "reference_cache"
    assert cache("ls") == (0, f"nothing is kept in {folder}\n")
    store = Store(folder, Fingerprint(digest="ab" * 32, model="m", parts={"precision": "bf16"}))
    one = np.frombuffer(b"1234567890123456", "S16")
    store.append(Values(keys=one, logps=np.zeros(1, np.float32), tokens=np.ones(1, np.int32)))
    code, said = cache("ls")
    assert code == 0 and "ab" * 8 in said and "bf16" in said
    assert cache("verify") == cache("verify", "abab") == (0, f"{store.folder.name}: 1 responses\n")
    (part,) = parts_of(store.folder)
    part.write_bytes(part.read_bytes()[:-1])
    code, said = cache("verify")
    assert code == 1 and part.name in said
    assert cache("rm", "ff")[0] == 1 and "no fingerprint begins with ff" in caplog.text
    code, said = cache("rm", "ab", f"reference.cache_dir={folder}")
    assert code == 0 and str(store.folder) in said
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("words", [[], ["0"], ["-3"], ["1.5"], ["2", "0"], ["2", "3", "4"], ["first"]])
def test_plan_step_with_other_words(words: list[str], caplog: pytest.LogCaptureFixture) -> None:
    assert cli.command_line(["plan-step", *words]) == 2
    assert "<step> [<workers>]" in caplog.text or "-3: no such option" in caplog.text


def test_plan_step_from_end_to_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The batch does not depend on the workers, the last step is the last, and nothing is left behind."""
    small = [f"output_dir={tmp_path}", "data.demo=60", "optim.global_batch_size=8"]

    def plan(*arguments: str) -> tuple[int, str]:
        code = cli.command_line(["plan-step", *arguments, *small])
        return code, capsys.readouterr().out

    code, one = plan("8")
    assert code == 0 and one.startswith("step 8: batch ") and "1 worker, " in one
    code, three = plan("8", "3", "optim.micro_batch_pairs=2")
    assert code == 0 and one.splitlines()[0] == three.splitlines()[0]
    assert len([line for line in three.splitlines() if line.startswith("worker 2, micro-batch ")]) > 0
    assert plan("9") == (2, "") and "ends with step 8" in caplog.text
    assert plan("1", "3", "zero.sequence_parallel=2") == (2, "") and "must divide the 3 workers" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["data_cache"]
