"""A request to stop: any of three signals, or a file; a second, later signal leaves at once."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from dpo import preempt
from dpo.preempt import SIGNALS, StopRequest

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def handlers_kept() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Clock:
    seconds = 100.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(preempt, "time", found)
    return found


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    return codes


def installed(folder: Path) -> StopRequest:
    stop = StopRequest(folder / "STOP")
    stop.install()
    return stop


def test_nothing_is_requested_at_first(tmp_path: Path) -> None:
    stop = installed(tmp_path)
    assert not stop.requested() and stop.reason is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_is_remembered_and_named(number: signal.Signals, tmp_path: Path, exits: list[int]) -> None:
    stop = installed(tmp_path)
    signal.raise_signal(number)
    assert stop.requested() and stop.requested()
    assert stop.reason == f"received {number.name}"
    assert exits == []


def test_the_file_is_noticed_and_stays_requested(tmp_path: Path) -> None:
    stop = installed(tmp_path)
    (tmp_path / "STOP").touch()
    assert stop.requested()
    assert stop.reason == f"found {tmp_path / 'STOP'}"
    (tmp_path / "STOP").unlink()
    assert stop.requested()


def test_the_same_request_twice_is_one(tmp_path: Path, clock: Clock, exits: list[int]) -> None:
    """Launcher and scheduler both deliver a request, moments apart: the checkpoint must still be written."""
    stop = installed(tmp_path)
    signal.raise_signal(signal.SIGTERM)
    clock.seconds += preempt.SAME_SIGNAL_SECONDS
    signal.raise_signal(signal.SIGUSR1)
    assert exits == []
    assert stop.reason == "received SIGTERM"


def test_a_later_signal_leaves_at_once(tmp_path: Path, clock: Clock, exits: list[int]) -> None:
    """A person at the keyboard who presses Ctrl-C again does not want to wait for a checkpoint."""
    installed(tmp_path)
    signal.raise_signal(signal.SIGTERM)
    clock.seconds += preempt.SAME_SIGNAL_SECONDS + 0.1
    signal.raise_signal(signal.SIGINT)
    assert exits == [128 + signal.SIGINT]


def test_a_signal_after_the_file_is_part_of_the_same_request(tmp_path: Path, clock: Clock, exits: list[int]) -> None:
    """A script that leaves a STOP file and then sends SIGTERM must not cost the checkpoint."""
    stop = installed(tmp_path)
    clock.seconds = 1000.0  # the machine has been up for a while, as it always has
    (tmp_path / "STOP").touch()
    assert stop.requested()
    signal.raise_signal(signal.SIGTERM)
    assert exits == []
