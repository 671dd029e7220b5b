"""A request to stop: any of three signals, a file, a deadline; agreed by all workers; a second, later signal leaves at
once."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dpo import preempt
from dpo.preempt import SIGNALS, WAKE, Stopped, StopRequest

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def handlers_kept() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (*SIGNALS, WAKE)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    signal.set_wakeup_fd(-1)


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


class Others:
    """Stands in for the other workers: what they answer. This one is rank 0."""

    def __init__(self, *reasons: tuple[str | None, float]):
        self.reasons = reasons

    def agree(self, flag: bool) -> bool:
        return flag or any(reason for reason, _ in self.reasons)

    def collect(self, value: Any) -> list[Any]:
        return [value, *self.reasons]


def installed() -> StopRequest:
    stop = StopRequest()
    stop.install()
    return stop


def until(stop: StopRequest) -> None:
    """The thread looks several times a second."""
    end = time.monotonic() + 30
    while not stop.requested() and time.monotonic() < end:
        time.sleep(0.01)


def test_nothing_is_requested_at_first() -> None:
    stop = installed()
    stop.check()
    assert not stop.requested() and stop.reason is None and stop.seconds() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_is_remembered_and_named(number: signal.Signals, exits: list[int]) -> None:
    stop = installed()
    signal.raise_signal(number)
    assert stop.requested() and stop.requested()
    with pytest.raises(Stopped, match=f"received {number.name}"):
        stop.check()
    assert exits == []


def test_the_file_is_noticed_and_stays_requested(tmp_path: Path) -> None:
    stop = installed()
    (tmp_path / "STOP").touch()
    stop.watch(tmp_path / "STOP")
    until(stop)
    assert stop.reason == f"found {tmp_path / 'STOP'}"
    (tmp_path / "STOP").unlink()
    assert stop.requested()


def test_the_deadline_counts_from_the_start_and_not_by_the_clock_on_the_wall(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = StopRequest()
    clock.seconds += 30
    assert stop.set_deadline("90s") == 60
    monkeypatch.setattr("time.time", lambda: 0.0)  # somebody sets the clock back by decades
    clock.seconds += 59.9
    stop._look()
    assert not stop.requested()
    clock.seconds += 0.1
    stop._look()
    assert stop.reason == "reached checkpoint.deadline=90s"
    clock.seconds += 7
    assert stop.seconds() == pytest.approx(7), "from the deadline on"


def test_without_a_deadline_none_is_kept() -> None:
    assert StopRequest().set_deadline(None) is None


def test_another_workers_request_is_everybodys_with_its_reason_and_time(clock: Clock) -> None:
    stop = StopRequest()
    stop.join(Others((None, 0.0), ("received SIGUSR1", 2.5)))
    assert not stop.requested()
    with pytest.raises(Stopped, match=r"^worker 2 received SIGUSR1$"):
        stop.check()
    assert stop.seconds() == 2.5


def test_ones_own_reason_comes_first(clock: Clock) -> None:
    stop = StopRequest()
    stop.join(Others(("received SIGTERM", 2.5)))
    stop._on_signal(signal.SIGTERM, None)
    with pytest.raises(Stopped, match=r"^received SIGTERM$"):
        stop.check()
    assert stop.seconds() == 2.5


def test_no_request_no_exchange() -> None:
    stop = StopRequest()
    stop.join(Others((None, 0.0)))
    stop.check()


def test_work_done_alone_is_interrupted_by_a_signal() -> None:
    stop, reached = installed(), []

    def work() -> None:
        signal.raise_signal(signal.SIGTERM)
        reached.append("behind the signal")

    with pytest.raises(Stopped, match="received SIGTERM"):
        stop.alone(work)
    assert reached == []


def test_work_done_alone_is_interrupted_by_the_file(tmp_path: Path) -> None:
    stop = installed()
    stop.watch(tmp_path / "STOP")
    began = time.monotonic()

    def work() -> None:
        (tmp_path / "STOP").touch()
        while time.monotonic() < began + 30:
            time.sleep(0.01)

    with pytest.raises(Stopped, match="found"):
        stop.alone(work)
    assert time.monotonic() < began + 30


def test_a_worker_that_is_further_waits_behind_its_work_and_leaves_too() -> None:
    stop = StopRequest()
    stop.join(Others(("received SIGTERM", 0.0)))
    done: list[int] = []
    with pytest.raises(Stopped, match="worker 1 received SIGTERM"):
        stop.alone(lambda: done.append(1))
    assert done == [1]


def test_work_is_not_begun_after_a_request() -> None:
    stop = installed()
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(Stopped):
        stop.alone(lambda: pytest.fail("begun"))


def test_work_gives_its_result_and_a_signal_behind_it_only_notes(exits: list[int]) -> None:
    stop = installed()
    assert stop.alone(lambda: 7) == 7
    signal.raise_signal(signal.SIGTERM)
    assert stop.requested()


def test_an_error_of_the_work_is_raised_and_later_signals_only_note() -> None:
    stop = installed()
    with pytest.raises(ZeroDivisionError):
        stop.alone(lambda: 1 // 0)
    signal.raise_signal(signal.SIGTERM)
    assert stop.requested()


def test_the_same_request_twice_is_one(clock: Clock, exits: list[int]) -> None:
    """Launcher and scheduler both deliver a request, moments apart: the checkpoint must still be written."""
    stop = StopRequest()
    stop._hear(signal.SIGTERM)
    clock.seconds += preempt.SAME_SIGNAL_SECONDS
    stop._hear(signal.SIGUSR1)
    assert exits == []


def test_a_later_signal_leaves_at_once(clock: Clock, exits: list[int]) -> None:
    """A person at the keyboard who presses Ctrl-C again does not want to wait for a checkpoint."""
    stop = StopRequest()
    stop._hear(signal.SIGTERM)
    clock.seconds += preempt.SAME_SIGNAL_SECONDS + 0.1
    stop._hear(signal.SIGINT)
    assert exits == [128 + signal.SIGINT]


def test_a_signal_after_the_file_is_part_of_the_same_request(tmp_path: Path, clock: Clock, exits: list[int]) -> None:
    """A script that leaves a STOP file and then sends SIGTERM must not cost the checkpoint."""
    stop = StopRequest()
    stop.watch(tmp_path / "STOP")
    (tmp_path / "STOP").touch()
    stop._look()
    assert stop.requested()
    clock.seconds = 1000.0
    stop._hear(signal.SIGTERM)
    assert exits == []


def test_a_signal_of_another_kind_is_nobodys_request(clock: Clock, exits: list[int]) -> None:
    stop = StopRequest()
    for _ in range(2):
        stop._hear(signal.SIGCHLD)
        clock.seconds += 100
    assert exits == []


STUCK = """
import ctypes, sys
from dpo import preempt
preempt.SAME_SIGNAL_SECONDS = 0.2
preempt.StopRequest().install()
sys.stdout.write("ready\\n")
sys.stdout.flush()
mutex = ctypes.create_string_buffer(64)  # in all zeros: a pthread_mutex_t nobody holds
for _ in range(2):
    ctypes.CDLL(None).pthread_mutex_lock(mutex)  # the second call waits for ever, whatever signals come
"""


def test_a_later_signal_is_heard_while_the_main_thread_is_stuck_in_a_library() -> None:
    """As in a collective whose partner hangs: Python's handlers never run there."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", STUCK], text=True, **pipes)
    try:
        assert process.stdout and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stderr and "received SIGTERM" in process.stderr.readline()
        time.sleep(0.3)  # longer than SAME_SIGNAL_SECONDS there
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.wait()


def test_durations_are_measured_by_clocks_that_nobody_sets() -> None:
    """The wall clock may jump back. It names files and dates records, and in digests.py it is compared with a file's
    change time, where a jump makes the file be read once more."""
    known = {"digests.py", "reference/store.py", "track/tensorboard_tracker.py"}
    package = Path(preempt.__file__).parent
    using = {str(file.relative_to(package)) for file in package.rglob("*.py") if "time.time" in file.read_text()}
    assert using == known
