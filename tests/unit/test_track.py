"""Tracking: what arrives in W&B's own file and on a server, and that no fault of it reaches the run."""

import gzip
import json
import logging
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from dpo import track
from dpo.config.schema import TrackConfig
from dpo.progress import Progress
from dpo.recorder import Recorder
from dpo.records import RunFolder, read_metrics
from dpo.redact import redact
from dpo.track import NullTracker, WandbTracker, has_key, make_tracker, metric_names, wanted_mode
from dpo.wandb_file import messages, told, values

wandb = pytest.importorskip("wandb")
KEY = "k" * 40  # wandb refuses shorter ones


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No credentials, settings or proxies of whoever runs the tests; log lines reach caplog."""
    for name in list(os.environ):
        if name.startswith("WANDB_") or name.lower().endswith("_proxy") or name == "NETRC":
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setattr(logging.getLogger("dpo"), "propagate", True)
    yield
    wandb.teardown()


def tracker(folder: Path, mode: str = "offline") -> WandbTracker:
    made = make_tracker(TrackConfig(wandb=mode, project="tests"), folder, is_main=True)
    assert isinstance(made, WandbTracker)
    return made


def own_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the trainer's own logger said; wandb's writes to a file in the run folder."""
    return [entry.getMessage() for entry in caplog.records if entry.name == "dpo"]


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
        "import os, signal, sys, time; from pathlib import Path; from dpo.track import WandbTracker;"
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
        "import json, os, signal, sys, time; from pathlib import Path; from dpo.track import WandbTracker;"
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
    monkeypatch.setattr(track, "INIT_SECONDS", 2.0)
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
    monkeypatch.setattr(track, "CALL_SECONDS", 0.2)
    monkeypatch.setattr(track, "_teardown", lambda: None)

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
        "import sys; from pathlib import Path; from dpo.log import setup_logging; from dpo.track import WandbTracker;"
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


class FakeServer(BaseHTTPRequestHandler):
    """As much of W&B's protocol as one run uses; keeps the rows it is sent."""

    rows: ClassVar[list[dict[str, Any]]] = []
    posts: ClassVar[list[str]] = []
    fault: ClassVar[str] = ""  # "slow" or "rejects"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        text = (gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body).decode()
        self.posts.append(text)
        if self.fault == "slow":
            time.sleep(60)
        if self.fault == "rejects":
            self.send_error(401)
            return
        if self.path.endswith("/graphql"):
            self.answer({"data": self.graphql(json.loads(text))})
            return
        if "/file_stream" in self.path:
            lines = json.loads(text).get("files", {}).get("wandb-history.jsonl", {}).get("content", [])
            self.rows.extend(json.loads(line) for line in lines)
        self.answer({})

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.answer({})

    def graphql(self, call: dict[str, Any]) -> dict[str, Any]:
        name, sent = call.get("operationName") or call["query"], call.get("variables", {})
        entity = {"id": "e", "name": "team"}
        project = {"id": "p", "name": sent.get("project"), "internalId": "1", "entity": entity}
        if "RunResumeStatus" in name:
            return {"model": project | {"bucket": None}}
        if "UpsertBucket" in name:
            bucket = {"id": "b", "name": sent.get("name"), "displayName": "demo", "config": "{}", "project": project}
            return {"upsertBucket": {"bucket": bucket | {"sweepName": "", "historyLineCount": 0}, "inserted": True}}
        if "CreateRunFiles" in name:
            files = [{"name": f, "uploadUrl": f"http://{self.headers['host']}/up"} for f in sent.get("files", [])]
            return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
        return {"serverInfo": {"features": []}} if "ServerFeatures" in name else {}

    def answer(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def test_online_rows_arrive_and_a_key_is_enough(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.INFO, "dpo")
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_address[1]}")
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_MODE", "")
        tracking = tracker(tmp_path, "auto")
        tracking.start({"path": f"https://user:{KEY}@host/data"}, "demo", "online1")
        for step in (1, 2, 3):
            tracking.log({"step": step, "split": "train", "rewards/margins": step / 2}, step)
        tracking.log({"step": 2, "split": "train", "rewards/margins": 9.0}, 2)  # refused, without a word
        tracking.finish()
    finally:
        server.shutdown()
        server.server_close()
    assert {row["_step"]: row["rewards/margins"] for row in FakeServer.rows} == {1: 0.5, 2: 1.0, 3: 1.5}
    (line,) = own_lines(caplog)
    assert line.startswith("wandb: http://127.0.0.1:") and line.endswith("/team/tests/runs/online1")
    assert os.environ["WANDB_MODE"] == ""
    assert capfd.readouterr() == ("", "")
    assert not any(KEY in post for post in FakeServer.posts)


@pytest.mark.parametrize("fault", ["gone", "slow", "rejects"])
def test_a_server_that_fails_in_mid_run_costs_no_number(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is gone, answers no more, or refuses the key: metrics.jsonl has every step, and the end is not held up."""
    monkeypatch.setattr(track, "FINISH_SECONDS", 2.0)
    monkeypatch.setattr(FakeServer, "rows", [])
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeServer)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    tracking = tracker(tmp_path, "online")
    symptoms: Any = SimpleNamespace(see=lambda _: [])
    recorder = Recorder(RunFolder(tmp_path), tracking, Progress(60, enabled=False), symptoms, is_main=True)
    tracking.start({}, "demo", f"fault-{fault}")
    recorder.log({"step": 1, "split": "train", "loss": 1.0})
    monkeypatch.setattr(FakeServer, "fault", fault)
    server.shutdown()
    if fault == "gone":
        server.server_close()
    else:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    for step in range(2, 61):
        recorder.log({"step": step, "split": "train", "loss": 1.0})
    began = time.monotonic()
    recorder.close(0, {"final/loss": 1.0})
    assert time.monotonic() - began < track.CALL_SECONDS
    server.server_close()
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == list(range(1, 61))
    assert "Traceback" not in capfd.readouterr().err


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


def test_secrets_are_hidden_and_settings_are_not() -> None:
    environment = {"HF_TOKEN": "plainvalue1", "MY_API_KEY": "short", "HOME": "/home/someone"}
    config = {
        "model": {"path": "m", "eos_token": "</s>", "hf_token": "abc", "api-key": None, "trust_remote_code": False},
        "optim": {"micro_batch_tokens": 8192, "lr": 1e-5},
        "eval": {"max_new_tokens": 128},
        "data": {"path": "s3://user:pa55@host/x", "list": ["is plainvalue1 here", "short", "hf_" + "a" * 30]},
        "password": 12345,
    }
    assert redact(config, environment) == {
        "model": {"path": "m", "eos_token": "</s>", "hf_token": "***", "api-key": None, "trust_remote_code": False},
        "optim": {"micro_batch_tokens": 8192, "lr": 1e-5},
        "eval": {"max_new_tokens": 128},
        "data": {"path": "s3://user:***@host/x", "list": ["is *** here", "short", "***"]},
        "password": "***",
    }


def test_no_default_setting_is_taken_for_a_secret() -> None:
    from dataclasses import asdict

    from dpo.config.schema import RunConfig

    config = asdict(RunConfig())
    config["model"]["eos_token"] = "<|end|>"
    assert redact(config, {}) == config


def test_metric_names() -> None:
    record = {"step": 3, "split": "eval", "loss": 0.5, "rewards/accuracies": 1, "note": "text"}
    assert metric_names(record) == {"eval/loss": 0.5, "eval/rewards/accuracies": 1}
    assert metric_names(record | {"split": "train"}) == {"loss": 0.5, "rewards/accuracies": 1}
