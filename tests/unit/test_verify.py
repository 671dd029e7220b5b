"""`python -m dpo verify`: runs inside and outside their bands, and those that say nothing."""

import logging
from pathlib import Path

import pytest
from runs import finished

from dpo import cli

pytestmark = pytest.mark.unit

GOOD = {"loss": 0.5031, "rewards/accuracies": 0.77, "rewards/margins": 1.0}


@pytest.fixture(autouse=True)
def own_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's logging stays as it is."""
    monkeypatch.setattr(cli, "setup_logging", lambda is_main: None)
    monkeypatch.setattr(logging.getLogger("dpo"), "propagate", True)


def test_inside_and_outside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finished(tmp_path / "good", "experiment=zephyr-7b", **GOOD)
    assert cli.command_line(["verify", run]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0][-2:] == ["against", "experiment=zephyr-7b"]
    assert lines[2] == ["loss", "0.502", "to", "0.505", "0.5031", "ok"]
    assert lines[4] == ["rewards/margins", "0.94", "to", "1", "1.0000", "ok"], "the ends belong to it"
    assert len(lines) == 5, "and no setting differs"
    bad = finished(tmp_path / "bad", "experiment=zephyr-7b", "optim.lr=1e-6", **(GOOD | {"loss": 0.51}))
    assert cli.command_line(["verify", bad]) == 1
    said = capsys.readouterr().out
    assert "0.5100  out: 0.0050 above" in said
    assert said.endswith("settings that differ from the experiment's:\n  optim.lr: 1e-06, there 5e-07\n")


@pytest.mark.parametrize(("value", "said"), [(0.5, "0.0020 below"), (float("nan"), "NaN"), (float("inf"), "inf above")])
def test_numbers_outside(value: float, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finished(tmp_path / "run", "experiment=zephyr-7b", **(GOOD | {"loss": value}))
    assert cli.command_line(["verify", run]) == 1
    assert said in capsys.readouterr().out


def test_what_was_not_measured_is_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finished(tmp_path / "run", "experiment=zephyr-7b", loss=0.503)
    assert cli.command_line(["verify", run]) == 1
    assert capsys.readouterr().out.count("not measured") == 2


def test_a_run_that_was_not_started_as_an_experiment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Compared with the one that is named; logging is no difference."""
    run = finished(tmp_path / "run", "track.every=5", **GOOD)
    assert cli.command_line(["verify", run, "experiment=zephyr-7b"]) == 0
    assert "loss.beta: 0.1, there 0.01" in capsys.readouterr().out
    assert cli.command_line(["verify", "experiment=zephyr-7b", "name=run", f"output_dir={tmp_path}"]) == 0
    assert "track" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("overrides", "changes", "said"),
    [
        ((), {**GOOD}, "says no expected numbers. Experiments that do: demo, zephyr-7b"),
        (("experiment=zephyr-7b",), {}, "nothing was held out"),
        (("experiment=zephyr-7b",), {"state": "stopped"}, "is not finished: stopped, step 40 of 40"),
    ],
)
def test_runs_that_say_nothing(
    overrides: tuple[str, ...],
    changes: dict[str, float],
    said: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = finished(tmp_path / "run", *overrides, **changes)
    assert cli.command_line(["verify", run]) == 1
    assert said in caplog.text


def test_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    finished(tmp_path / "other")
    assert cli.command_line(["verify", str(tmp_path / "run")]) == 1
    assert "no run here; beside it there are: other" in caplog.text
    assert cli.command_line(["verify"]) == 2
    assert "<run folder>" in caplog.text
