"""`python -m dpo checkpoints` from end to end."""

import logging
from pathlib import Path

import pytest
from checkpoints import DictEngine, checkpoints, flip_bit, provider, written

from dpo import cli
from dpo.checkpoint.folders import checkpoints_in, set_aside
from dpo.checkpoint.listing import _age

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def own_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "setup_logging", lambda is_main: None)
    monkeypatch.setattr(logging.getLogger("dpo"), "propagate", True)


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """Two runs: `a` with four checkpoints, the best of them the second, and `b` with one."""
    engine, saving = DictEngine(), checkpoints(tmp_path / "a" / "checkpoints", keep=4)
    for step, loss in ((5, 0.7), (10, 0.5), (15, 0.6), (20, 0.65)):
        saving.save(step, engine, {"progress": provider(step=step)}, {"loss": loss})  # type: ignore[arg-type]
    saving.finish()
    written(tmp_path / "b" / "checkpoints", 7)
    return tmp_path


def command(capsys: pytest.CaptureFixture[str], outputs: Path, *words: str) -> tuple[int, str]:
    code = cli.command_line(["checkpoints", *words, f"output_dir={outputs}"])
    return code, capsys.readouterr().out


def spoil(checkpoint: Path) -> None:
    for file in checkpoint.glob("*.safetensors"):
        flip_bit(file)


def test_ls(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_aside(outputs / "b" / "checkpoints" / "step-00000007")
    (outputs / "a" / "checkpoints" / "step-00000005" / "state-00000-of-00001.safetensors").unlink()
    code, said = command(capsys, outputs, "ls")
    lines = said.splitlines()
    assert code == 0
    assert lines[0] == str(outputs / "a" / "checkpoints")
    assert lines[1].split() == ["checkpoint", "step", "MB", "files", "best", "held-out", "age"]
    assert "damaged" in lines[2] and "step-00000005" in lines[2]
    assert [line.split()[:2] for line in lines[3:6]] == [[f"step-000000{step}", str(step)] for step in (10, 15, 20)]
    assert [" best " in line for line in lines[3:6]] == [True, False, False]
    assert "loss 0.5000" in lines[3] and lines[3].endswith(" s")
    assert "step-00000007.damaged  set aside as damaged" in said
    for one in (str(outputs / "a"), "name=a"):
        assert [line.split()[0] for line in command(capsys, outputs, "ls", one)[1].splitlines()] == [
            line.split()[0] for line in lines[:6]
        ]
    assert "best" not in command(capsys, outputs, "ls", "name=a", "checkpoint.best=null")[1].splitlines()[3]


def test_verify(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = command(capsys, outputs, "verify")
    assert code == 0 and said.count(": whole") == 5
    spoil(outputs / "a" / "checkpoints" / "step-00000015")
    code, said = command(capsys, outputs, "verify")
    assert code == 1 and said.count(": whole") == 4 and "state-00000-of-00001.safetensors is not what" in said
    assert command(capsys, outputs, "verify", "name=b")[0] == 0
    assert len(checkpoints_in(outputs / "a" / "checkpoints")) == 4, "nothing is renamed"


def test_prune(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The newest one is damaged: it does not count, and stays for whoever wants to look."""
    folder = outputs / "a" / "checkpoints"
    spoil(folder / "step-00000020")
    code, said = command(capsys, outputs, "prune", str(outputs / "a"), "checkpoint.keep=1")
    assert code == 0 and f"removed {folder / 'step-00000005'}" in said
    assert [path.name for path in checkpoints_in(folder)] == [f"step-000000{step}" for step in (10, 15, 20)]
    command(capsys, outputs, "prune", "name=a", "checkpoint.keep=1", "checkpoint.best=null")
    assert [path.name for path in checkpoints_in(folder)] == ["step-00000015", "step-00000020"]
    spoil(folder / "step-00000015")
    code, said = command(capsys, outputs, "prune", "name=a", "checkpoint.keep=1")
    assert code == 0 and "removed" not in said


@pytest.mark.parametrize("words", [[], ["rm"], ["prune"], ["ls", "a", "b"], ["verify", "a", "name=a"]])
def test_other_words(
    words: list[str], outputs: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert command(capsys, outputs, *words)[0] == 2
    assert "prune <run folder>" in caplog.text


def test_no_such_run(outputs: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    assert command(capsys, outputs, "ls", "name=c")[0] == 1
    assert str(outputs / "a") in caplog.text and str(outputs / "b") in caplog.text
    assert command(capsys, outputs / "nothing", "ls") == (0, f"no run in {outputs / 'nothing'} has checkpoints\n")


def test_age() -> None:
    assert _age("2999-01-01T00:00:00+00:00") == "0 s", "the clock was set back"
    assert _age("2020-01-01T00:00:00+00:00").endswith(" d")
