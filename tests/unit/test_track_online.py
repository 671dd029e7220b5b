"""Tracking with a server: what reaches it, and that none of its faults reaches the run."""

import logging
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tracking import KEY, clean, own_lines, tracker  # noqa: F401
from wandb_server import FakeWandb, fake_wandb

from dpo.progress import Progress
from dpo.recorder import Recorder
from dpo.records import RunFolder, read_metrics
from dpo.track import wandb_tracker

pytestmark = pytest.mark.unit


def test_online_rows_arrive_and_a_key_is_enough(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.INFO, "dpo")
    with fake_wandb() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_MODE", "")
        tracking = tracker(tmp_path, "auto")
        tracking.start({"path": f"https://user:{KEY}@host/data"}, "demo", "online1")
        for step in (1, 2, 3):
            tracking.log({"step": step, "split": "train", "rewards/margins": step / 2}, step)
        tracking.log({"step": 2, "split": "train", "rewards/margins": 9.0}, 2)  # refused, without a word
        tracking.finish()
    assert {row["_step"]: row["rewards/margins"] for row in FakeWandb.rows} == {1: 0.5, 2: 1.0, 3: 1.5}
    (line,) = own_lines(caplog)
    assert line.startswith("wandb: http://127.0.0.1:") and line.endswith("/team/tests/runs/online1")
    assert os.environ["WANDB_MODE"] == ""
    assert capfd.readouterr() == ("", "")
    assert not any(KEY in post for post in FakeWandb.posts)


@pytest.mark.timeout(120)  # left alone, wandb waits for over 140 s
@pytest.mark.parametrize("fault", ["gone", "slow", "rejects"])
def test_a_server_that_fails_in_mid_run_costs_no_number(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is gone, answers no more, or refuses the key: metrics.jsonl has every step, and the end is not held up."""
    monkeypatch.setattr(wandb_tracker, "FINISH_SECONDS", 2.0)
    with fake_wandb() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        tracking = tracker(tmp_path, "online")
        symptoms: Any = SimpleNamespace(see=lambda _: [])
        recorder = Recorder(RunFolder(tmp_path), tracking, Progress(60, enabled=False), symptoms, is_main=True)
        tracking.start({}, "demo", f"fault-{fault}")
        recorder.log({"step": 1, "split": "train", "loss": 1.0})
        server.fail(fault)
        for step in range(2, 61):
            recorder.log({"step": step, "split": "train", "loss": 1.0})
        recorder.close(0, {"final/loss": 1.0})
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == list(range(1, 61))
    assert "Traceback" not in capfd.readouterr().err
