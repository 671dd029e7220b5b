"""Tracking with a server: what reaches it, and that none of its faults reaches the run."""

import gzip
import json
import logging
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from tracking import KEY, clean, own_lines, tracker  # noqa: F401

from dpo import track
from dpo.progress import Progress
from dpo.recorder import Recorder
from dpo.records import RunFolder, read_metrics

pytestmark = pytest.mark.unit


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


@pytest.mark.timeout(120)  # left alone, wandb waits for over 140 s
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
    recorder.close(0, {"final/loss": 1.0})
    server.server_close()
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == list(range(1, 61))
    assert "Traceback" not in capfd.readouterr().err
