"""Tracking: what arrives in W&B's own file and on a server, and that no fault of it reaches the run."""

import json
import logging
import os
import pty
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import wandb
from tracking import KEY, clean, own_lines, tracker  # noqa: F401

from dpo.config.schema import TrackConfig
from dpo.track import wandb_tracker
from dpo.track.choose import make_tracker, wanted_mode
from dpo.track.reach import has_key
from dpo.track.tracker import NullTracker, metric_names
from dpo.track.wandb_file import messages, told, values

pytestmark = pytest.mark.unit


def read_back(folder: Path, run_id: str) -> dict[str, Any]:
    """Config, history, summary and exit code of the one offline run with this id."""
    (path,) = folder.glob(f"wandb/offline-run-*-{run_id}/run-{run_id}.wandb")
    found: dict[str, Any] = {"config": {}, "history": [], "summary": {}, "exit": None}
    for record in messages(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found |= {"id": record.run.run_id, "project": record.run.project, "name": record.run.display_name}
            found["config"] |= values(record.run.config.update)
        elif kind == "history":
            found["history"].append(values(record.history.item))
        elif kind == "summary":
            found["summary"] |= values(record.summary.update)
        elif kind == "exit":
            found["exit"] = record.exit.exit_code
    return found


def test_offline_run_is_complete_and_says_where_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO, "dpo")
    folder = tmp_path / "run"
    tracking = tracker(folder)
    config = {"seed": 1, "data": {"hub_token": "t0p", "max_length": 8}}
    run_id = tracking.start(config, "demo", "abc123")
    assert run_id == "abc123"
    tracking.log({"step": 0, "split": "eval", "loss": 0.7, "rewards/accuracies": 0.0}, 0)
    tracking.log({"step": 1, "split": "train", "loss": 0.6, "rewards/accuracies": 0.75}, 1)
    tracking.log({"step": 1, "split": "eval", "loss": 0.5, "rewards/accuracies": 1.0}, 1)
    tracking.summary({"final_accuracy": 1.0})
    tracking.finish(3)
    run = read_back(folder, "abc123")
    assert (run["id"], run["project"], run["name"], run["exit"]) == ("abc123", "tests", "demo", 3)
    assert run["config"]["data"] == {"hub_token": "***", "max_length": 8} and run["config"]["seed"] == 1
    steps = {row["_step"]: row for row in run["history"]}
    assert set(steps) == {0, 1}
    assert steps[0]["eval/loss"] == 0.7 and "loss" not in steps[0]
    assert steps[1]["rewards/accuracies"] == 0.75 and steps[1]["eval/rewards/accuracies"] == 1.0
    assert "step" not in steps[1] and "split" not in steps[1]
    assert run["summary"]["final_accuracy"] == 1.0
    (line,) = own_lines(caplog)
    (where,) = folder.glob("wandb/offline-run-*")
    assert line == f"wandb: offline, upload later with: wandb sync {where}"
    out, err = capfd.readouterr()
    assert out == "" and "wandb:" not in err.replace(line, "")
    assert b"t0p" not in b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_resume_goes_on_under_the_same_id_and_an_id_is_made(tmp_path: Path) -> None:
    first = tracker(tmp_path / "first")
    run_id = first.start({}, "demo")
    assert run_id is not None and len(run_id) == 8
    first.finish()
    second = tracker(tmp_path / "second")
    assert second.start({}, "demo", run_id) == run_id
    second.log({"step": 41, "split": "train", "loss": 1.0}, 41)
    second.finish()
    assert [row["_step"] for row in read_back(tmp_path / "second", run_id)["history"]] == [41]


def test_a_kill_loses_little_of_an_offline_run(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, time; from pathlib import Path; from dpo.track.wandb_tracker import WandbTracker;"
        "tracking = WandbTracker(folder=Path(sys.argv[1]), mode='offline'); tracking.start({}, 'demo', 'killed');"
        "[tracking.log({'step': s, 'loss': 1.0}, s) for s in range(1, 31)]; time.sleep(1.6);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, timeout=30)
    assert done.returncode == -signal.SIGKILL
    rows = read_back(tmp_path, "killed")["history"]
    assert len(rows) >= 29


def test_a_killed_run_goes_on_without_gap_or_repetition(tmp_path: Path) -> None:
    """Killed after step 30, continued from step 20 and again from step 35; told everything from the beginning, as from
    metrics.jsonl. The files together hold every number once."""
    rows = [{"step": s, "split": "train", "loss": s / 7, "grad_norm": 1.0} for s in range(1, 41)]
    rows.insert(20, {"step": 20, "split": "eval", "loss": 0.25})
    code = (
        "import json, os, signal, sys, time; from pathlib import Path;"
        "from dpo.track.wandb_tracker import WandbTracker;"
        "tracking = WandbTracker(folder=Path(sys.argv[1]), mode='offline'); tracking.start({}, 'demo', 'killed');"
        "[tracking.log(row, row['step']) for row in json.loads(sys.argv[2])]; time.sleep(1.6);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    known = json.dumps([row for row in rows if row["step"] <= 30])
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path), known], capture_output=True, timeout=30)
    assert done.returncode == -signal.SIGKILL
    for last in (35, 40):
        tracking = tracker(tmp_path)
        assert tracking.start({}, "demo", "killed") == "killed"
        for row in rows:
            if row["step"] <= last:
                tracking.log(row, row["step"])
        tracking.finish()
        time.sleep(1.1)  # the folders are named by the second
    found = [
        (row["_step"], name, value)
        for path in sorted(tmp_path.glob("wandb/offline-run-*-killed/*.wandb"))
        for message in messages(path)
        if message.WhichOneof("record_type") == "history"
        for row in [values(message.history.item)]
        for name, value in row.items()
        if not name.startswith("_")
    ]
    assert len(list(tmp_path.glob("wandb/offline-run-*-killed"))) == 3
    expected = [(row["step"], name, value) for row in rows for name, value in metric_names(row).items()]
    assert sorted(found) == sorted(expected)


def test_a_histogram_arrives_with_its_edges_and_once(tmp_path: Path) -> None:
    row = {"step": 1, "split": "train", "rewards/margins_histogram": {"1": 2, "3": 1}}
    for _ in range(2):
        tracking = tracker(tmp_path)
        tracking.start({}, "demo", "spread")
        tracking.log(row, 1)
        tracking.finish()
        time.sleep(1.1)  # the folders are named by the second
    files = sorted(tmp_path.glob("wandb/offline-run-*-spread/*.wandb"))
    rows = [
        values(message.history.item)
        for file in files
        for message in messages(file)
        if message.WhichOneof("record_type") == "history"
    ]
    assert len(files) == 2
    (found,) = [row["rewards/margins_histogram"] for row in rows]
    assert (found["_type"], found["values"]) == ("histogram", [2, 0, 1])
    assert found["bins"] == pytest.approx([2**-10, 2**-9.75, 2**-9.5, 2**-9.25])


def test_half_a_record_ends_the_file(tmp_path: Path) -> None:
    """As a kill leaves it."""
    tracking = tracker(tmp_path)
    tracking.start({}, "demo", "torn")
    for step in range(1, 4):
        tracking.log({"step": step, "split": "train", "loss": 1.0}, step)
    tracking.finish()
    (path,) = tmp_path.glob("wandb/offline-run-*-torn/run-torn.wandb")
    whole = told(tmp_path, "torn")
    assert {step: "loss" in names for step, names in whole.items()} == {1: True, 2: True, 3: True}
    data = path.read_bytes()
    for length in range(0, len(data), 61):
        path.write_bytes(data[:length])
        assert told(tmp_path, "torn").items() <= whole.items()


def test_unreachable_server_means_offline_within_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dpo")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    began = time.monotonic()
    tracking = tracker(tmp_path, "online")
    tracking.start({}, "demo", "far")
    tracking.log({"step": 1, "loss": 1.0}, 1)
    tracking.finish()
    assert time.monotonic() - began < 10
    assert read_back(tmp_path, "far")["history"][0]["loss"] == 1.0
    assert "127.0.0.1:9 cannot be reached" in caplog.text and KEY not in caplog.text


def test_mute_server_means_offline_with_the_same_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It accepts the connection and never answers, as a captive network does."""
    caplog.set_level(logging.INFO, "dpo")
    monkeypatch.setattr(wandb_tracker, "INIT_SECONDS", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        began = time.monotonic()
        tracking = tracker(tmp_path, "auto")
        assert tracking.start({}, "demo", "mute") == "mute"
        tracking.log({"step": 1, "loss": 1.0}, 1)
        tracking.finish()
    assert time.monotonic() - began < 12
    assert read_back(tmp_path, "mute")["history"][0]["loss"] == 1.0
    assert len(own_lines(caplog)) == 1


def test_a_dead_helper_costs_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Slurm's SIGTERM reaches wandb's helper process as well."""
    tracking = tracker(tmp_path)
    tracking.start({}, "demo", "dead")
    helper = wandb.setup()._connection._proc._process
    helper.kill()
    helper.wait(10)
    time.sleep(0.2)
    for step in range(1, 5):
        tracking.log({"step": step, "loss": 1.0}, step)
    tracking.summary({"a": 1})
    tracking.finish()
    (line,) = own_lines(caplog)
    assert "tracking is off" in line and "metrics.jsonl" in line


def test_a_hanging_call_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(wandb_tracker, "CALL_SECONDS", 0.2)
    monkeypatch.setattr(wandb_tracker, "_teardown", lambda: None)

    class Hanging:
        def log(self, *_: Any, **__: Any) -> None:
            time.sleep(5)

    tracking = tracker(tmp_path)
    tracking._run = Hanging()
    began = time.monotonic()
    tracking.log({"step": 1, "loss": 1.0}, 1)
    tracking.log({"step": 2, "loss": 1.0}, 2)
    assert time.monotonic() - began < 2
    assert len(own_lines(caplog)) == 1 and "no answer within" in caplog.text


def test_a_failing_start_does_not_stop_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no space left\nmore")

    monkeypatch.setattr(wandb, "init", fail)
    tracking = tracker(tmp_path)
    assert tracking.start({}, "demo", "kept") == "kept"
    tracking.log({"step": 1, "loss": 1.0}, 1)
    tracking.finish()
    (line,) = own_lines(caplog)
    assert line.endswith("(no space left)")


def test_online_without_a_key_asks_nothing_on_a_terminal(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from dpo.log import setup_logging;"
        "from dpo.track.wandb_tracker import WandbTracker;"
        "setup_logging(True); tracking = WandbTracker(folder=Path(sys.argv[1]), mode='online');"
        "tracking.start({}, 'demo', 'asks'); tracking.finish()"
    )
    outside, terminal = pty.openpty()
    try:
        command = [sys.executable, "-c", code, str(tmp_path)]
        subprocess.run(command, stdin=terminal, stdout=terminal, stderr=terminal, check=True, timeout=20)
        text = os.read(outside, 100_000).decode()
    finally:
        os.close(outside)
        os.close(terminal)
    assert text.startswith("[dpo] wandb: offline (no API key, see `wandb login`)") and text.count("\n") == 1


def test_mode_of_the_environment_beats_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dpo")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_MODE", "offline")
    tracking = tracker(tmp_path, "auto")
    tracking.start({}, "demo", "stay")
    tracking.finish()
    assert [line[:22] for line in own_lines(caplog)] == ["wandb: offline, upload"]


@pytest.mark.parametrize(
    ("setting", "word", "mode"),
    [
        ("auto", None, "auto"),
        ("auto", "", "auto"),
        ("auto", "Offline", "offline"),
        ("auto", "dryrun", "offline"),
        ("auto", "online", "online"),
        ("auto", "disabled", "off"),
        ("auto", "sideways", "auto"),
        ("online", "offline", "online"),
        ("offline", "online", "offline"),
        ("off", "online", "off"),
    ],
)
def test_wanted_mode(setting: str, word: str | None, mode: str) -> None:
    assert wanted_mode(setting, {} if word is None else {"WANDB_MODE": word}) == mode


def test_other_workers_and_off_do_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for setting, is_main in (("online", False), ("off", True)):
        tracking = make_tracker(TrackConfig(wandb=setting), tmp_path / "run", is_main)
        assert isinstance(tracking, NullTracker)
        assert tracking.start({}, "demo", "abc") == "abc"
        tracking.log({"loss": 1.0}, 1)
        tracking.summary({})
        tracking.finish()
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert isinstance(make_tracker(TrackConfig(), tmp_path, True), NullTracker)
    assert not (tmp_path / "run").exists()


def test_keys_are_found_in_environment_and_netrc(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    assert not has_key("https://api.wandb.ai", home)
    assert not has_key("https://api.wandb.ai", home | {"WANDB_API_KEY": " "})
    assert has_key("https://api.wandb.ai", home | {"WANDB_API_KEY": KEY})
    path = tmp_path / ".netrc"
    path.write_text(f"machine api.wandb.ai\n  login user\n  password {KEY}\n")
    path.chmod(0o600)
    assert has_key("https://api.wandb.ai", home)
    assert has_key("https://api.forge.coreweave.com", home)
    assert not has_key("https://wandb.example.com", home)
    other = tmp_path / "other"
    other.write_text("broken [")
    assert not has_key("https://api.wandb.ai", home | {"NETRC": str(other)})


def test_metric_names() -> None:
    record = {"step": 3, "split": "eval", "loss": 0.5, "rewards/accuracies": 1, "note": "text"}
    assert metric_names(record) == {"eval/loss": 0.5, "eval/rewards/accuracies": 1}
    assert metric_names(record | {"split": "train"}) == {"loss": 0.5, "rewards/accuracies": 1}
