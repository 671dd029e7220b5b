"""A sweep is planned whole before anything starts, goes on past a run that fails, and stops when it is asked to."""

import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from runs import finished

from dpo import cli
from dpo.compare import compare, differing
from dpo.config.sweep import jobs_of
from dpo.errors import ConfigError, RunError
from dpo.records import RunFolder
from dpo.run_sweep import Sweep, run_sweep

pytestmark = pytest.mark.unit

# In place of a launch: writes down what it was given, and leaves a run that is done, unless its beta is 0.5.
FAKE = """
import json, os, sys
given = dict(text.split("=", 1) for text in sys.argv[1:])
folder = os.path.join(given["output_dir"], given["name"])
os.makedirs(folder)
open(os.path.join(folder, "given.json"), "w").write(json.dumps(sys.argv[1:]))
if given.get("loss.beta") == "0.5":
    sys.exit(3)
sys.path.insert(0, os.path.join(given["tests"], "unit"))
from pathlib import Path
from runs import finished
finished(Path(folder), f"loss={given['loss']}", f"loss.beta={given['loss.beta']}", loss=0.5, **{"kl/chosen": -2.0})
"""
SLEEPING = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
folder = next(text.split("=")[1] for text in sys.argv if text.startswith("output_dir="))
open(os.path.join(folder, f"begun-{os.getpid()}"), "w")
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def own_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's logging stays as it is."""
    monkeypatch.setattr(cli, "setup_logging", lambda is_main: None)
    monkeypatch.setattr(logging.getLogger("dpo"), "propagate", True)


def test_jobs_are_all_combinations_each_with_a_name_of_its_own() -> None:
    jobs = jobs_of(["loss=sigmoid,ipo", "optim.lr=1e-6", "loss.beta=0.1,0.5"])
    assert [job.name for job in jobs] == [
        "sweep-sigmoid-beta0.1",
        "sweep-sigmoid-beta0.5",
        "sweep-ipo-beta0.1",
        "sweep-ipo-beta0.5",
    ]
    assert jobs[2].overrides == ["loss=ipo", "optim.lr=1e-6", "loss.beta=0.1", "name=sweep-ipo-beta0.1"]
    assert (jobs[2].config.loss.name, jobs[2].config.name) == ("ipo", "sweep-ipo-beta0.1")
    named = jobs_of(["name=mine", "model.path=a/b,c", "data.path=p.jsonl"])
    assert [job.name for job in named] == ["mine-patha_b", "mine-pathc"]
    assert {job.sweep for job in named} == {"mine"}


def test_what_is_wrong_with_any_run_is_told_before_the_first() -> None:
    with pytest.raises(ConfigError) as caught:
        jobs_of(["loss=sigmoid,simpo", "loss.label_smoothing=0.1,0.7", "optim.lr=-1"])
    lr, smoothing, knob = sorted(caught.value.problems)[0], *sorted(caught.value.problems)[1:]
    text = "\n".join([lr, smoothing, knob])
    assert "loss.label_smoothing=0.7: must be at most 0.4999 (in loss=sigmoid, loss.label_smoothing=0.7)" in text
    assert (
        "loss.label_smoothing: no such setting" in text
        and "(in loss=simpo, loss.label_smoothing=0.1 and 1 more)" in text
    )
    assert "optim.lr=-1.0: must be greater than 0" in text


def test_a_sweep_of_one_is_none(caplog: pytest.LogCaptureFixture) -> None:
    assert cli.command_line(["sweep", "loss=ipo"]) == 2
    assert "nothing to sweep over" in caplog.text


@pytest.mark.parametrize("arguments", [["-m", "loss=sigmoid,ipo"], ["--multirun"], ["loss=sigmoid,ipo"]])
def test_multirun_is_refused_with_the_command_that_does_it(
    arguments: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert cli.main(arguments) == 2
    assert "python -m dpo sweep" in caplog.text


def test_one_launch_per_job_and_one_that_fails_ends_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tests = Path(__file__).parents[1]
    (tmp_path / "fake.py").write_text(FAKE)
    monkeypatch.setenv("PYTHONPATH", str(tests.parent))
    monkeypatch.setenv("LAUNCH", f"{sys.executable} {tmp_path / 'fake.py'} tests={tests}")
    text, whole = run_sweep(["loss=sigmoid,ipo", "loss.beta=0.1,0.5", f"output_dir={tmp_path}"])
    assert not whole
    assert caplog.text.count("failed (exit code 3); on with the others") == 2
    given = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("*/given.json"))]
    assert len(given) == 4 and given[0][1:] == [
        "loss=ipo",
        "loss.beta=0.1",
        f"output_dir={tmp_path}",
        "name=sweep-ipo-beta0.1",
    ]
    lines = [line.split() for line in text.splitlines()]
    assert lines[1] == ["run", "loss.name", "loss", "kl/chosen"]
    assert lines[2] == ["sweep-sigmoid-beta0.1", "sigmoid", "0.5000", "-2.0000"]
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_asked_to_stop_it_passes_that_on_and_starts_nothing_more(tmp_path: Path) -> None:
    jobs = jobs_of(["loss=sigmoid,ipo,hinge", f"output_dir={tmp_path}"])
    sweep = Sweep(jobs, [sys.executable, "-c", SLEEPING])

    before = signal.getsignal(signal.SIGTERM)

    def ask() -> None:
        while sweep._process is None:
            time.sleep(0.05)
        if signal.getsignal(signal.SIGTERM) == sweep._pass_on:  # else the signal would end the tests
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=ask)
    thread.start()
    assert sweep.run() == [] and sweep.asked
    thread.join()
    assert sweep._process is not None and sweep._process.returncode in (0, -signal.SIGTERM), "it was passed on"
    assert len(list(tmp_path.glob("begun-*"))) <= 1, "of three"
    assert signal.getsignal(signal.SIGTERM) is before


def test_compare_names_what_differs(tmp_path: Path) -> None:
    runs = [
        RunFolder(Path(finished(tmp_path / name, *settings, **{"loss": 0.4, "rewards/accuracies": 0.8})))
        for name, settings in {
            "a": ("loss.beta=0.1", "track.every=3"),
            "b": ("loss.beta=0.2", "optim.lr=1e-6"),
            "c": ("loss=ipo", "loss.beta=0.1"),
        }.items()
    ]
    text = compare(runs, tmp_path / "comparison.png")
    lines = [line.split() for line in text.splitlines()]
    assert lines[1] == ["run", "loss.name", "loss.beta", "optim.lr", "loss", "rewards/accuracies"]
    assert lines[3] == ["b", "sigmoid", "0.2", "1e-06", "0.4000", "0.8000"]
    assert (tmp_path / "comparison.png").exists()
    with pytest.raises(RunError, match="no run here"):
        compare([*runs, RunFolder(tmp_path / "gone")], tmp_path / "comparison.png")


def test_differing_settings_are_those_with_two_values() -> None:
    first = {"loss.name": "a", "loss.beta": 1, "loss.only_a": 3, "seed": 1}
    second = {"loss.name": "b", "loss.beta": 1, "loss.only_b": 4, "seed": 2}
    assert differing([first, second]) == ["loss.name", "seed"]


def test_compare_wants_two(caplog: pytest.LogCaptureFixture) -> None:
    assert cli.command_line(["compare", "outputs/one"]) == 2
    assert "<run folder> <run folder>" in caplog.text
