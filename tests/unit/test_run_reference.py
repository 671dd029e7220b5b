"""`python -m dpo reference` has no status.json: its exit code alone says whether everything is there."""

from types import SimpleNamespace
from typing import Any

import pytest

from dpo import run_reference
from dpo.preempt import Stopped, StopRequest

pytestmark = pytest.mark.unit


class Open:
    """A context that does nothing, for workers that are not there."""

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


def test_a_pass_that_was_stopped_says_that_it_is_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    world = SimpleNamespace(watchdog=SimpleNamespace(explained=Open), close=lambda: None)
    checkpoint = SimpleNamespace(stopped_code=0)
    config = SimpleNamespace(reference=SimpleNamespace(kind="cached"), loss=None, checkpoint=checkpoint)
    began: Any = SimpleNamespace(config=config, world=world, text=None, folder=None, source=None)
    sets = SimpleNamespace(train=[], held_out=[])
    stop = StopRequest()

    def stopped(*arguments: object) -> None:
        raise Stopped("received SIGUSR1")

    monkeypatch.setattr(run_reference, "start", lambda composed, stop: began)
    monkeypatch.setattr(run_reference, "build_data", lambda *arguments: sets)
    monkeypatch.setattr(run_reference, "build_groups", lambda *arguments: None)
    monkeypatch.setattr(run_reference, "Loss", lambda settings: None)
    monkeypatch.setattr(run_reference, "fill_reference", lambda *arguments: None)
    composed: Any = None
    assert run_reference.run_reference(composed, stop) == 0
    monkeypatch.setattr(run_reference, "fill_reference", stopped)
    assert run_reference.run_reference(composed, stop) == 75
    checkpoint.stopped_code = 9
    assert run_reference.run_reference(composed, stop) == 9
