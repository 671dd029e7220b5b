"""What tests of tracking share: an environment without keys, a tracker, the lines that it says."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb

from dpo.config.schema import TrackConfig
from dpo.track.choose import make_tracker
from dpo.track.wandb_tracker import WandbTracker

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
