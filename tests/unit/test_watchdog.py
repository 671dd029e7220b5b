"""Who is named when nothing moves: by beats in a store, without any collective."""

import logging
import os
import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
import torch.distributed as dist

from dpo.distributed import heartbeats, watchdog
from dpo.distributed.heartbeats import Beat, Heartbeats, behind, describe_silent, describe_still
from dpo.distributed.watchdog import Watchdog
from dpo.errors import EnvironmentProblem

pytestmark = pytest.mark.unit


def beat(rank: int, *, number: int = 9, moves: int = 5, waiting: bool = True) -> Beat:
    return Beat(
        rank=rank,
        host="n1",
        pid=100 + rank,
        number=number,
        moves=moves,
        still_seconds=612.0,
        where="step 137, micro-batch 2 of 4",
        line="dpo/step.py:38 train_step",
        waiting=waiting,
    )


@pytest.fixture
def store() -> dist.Store:
    return dist.HashStore()


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeats, "SILENT_SECONDS", 0.3)
    monkeypatch.setattr(heartbeats, "STORE_SECONDS", 0.3)
    monkeypatch.setattr(heartbeats, "BEAT_SECONDS", 0.05)
    short = {"BEAT": 0.05, "SILENT": 0.3, "GONE": 0.3, "HEED": 0.1, "LEAVE": 0.3}
    for name, seconds in short.items():
        monkeypatch.setattr(watchdog, f"{name}_SECONDS", seconds)


def test_the_one_furthest_behind_holds_the_others_up() -> None:
    assert [b.rank for b in behind([beat(0), beat(1, moves=4), beat(2)])] == [1]


def test_of_workers_at_the_same_place_the_one_outside_a_collective() -> None:
    assert [b.rank for b in behind([beat(0), beat(1), beat(2, waiting=False)])] == [2]
    assert [b.rank for b in behind([beat(0, moves=6, waiting=False), beat(1), beat(2)])] == [1, 2]


def test_what_is_said() -> None:
    one = describe_still([beat(0), beat(1, waiting=False), beat(2)])
    assert one == (
        "worker 1 (host n1, pid 101) has not moved for 612 s: step 137, micro-batch 2 of 4 "
        "(dpo/step.py:38 train_step); 2 others wait for that"
    )
    assert describe_still([beat(0), beat(1)]).startswith("no worker is behind the others")
    many = describe_silent([beat(rank) for rank in range(6)])
    assert many.count("gives no sign of life, last seen at step 137") == 4 and "and 2 more" in many


def test_silent_is_who_sends_no_new_beat(store: dist.Store) -> None:
    living, gone = Heartbeats(store, 0, 3), Heartbeats(store, 1, 3)  # the third has not sent any yet
    living.send(beat(0, number=1))
    gone.send(beat(1, number=7))
    again = threading.Timer(0.1, living.send, [beat(0, number=2)])
    again.start()
    silent, others = living.look(0.3)
    assert [b.rank for b in silent] == [1] and [b.rank for b in others] == [0]


def test_the_first_cause_stands(store: dist.Store) -> None:
    first, second = Heartbeats(store, 0, 2), Heartbeats(store, 1, 2)
    assert first.announced() is None
    assert first.announce("the cause")
    assert not second.announce("a consequence")
    assert second.announced() == "the cause"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> dist.TCPStore:
    """As a launcher hosts it."""
    hosted = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=10))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(hosted.port))
    return hosted


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    return codes


@pytest.fixture
def dog(server: dist.TCPStore) -> Iterator[Watchdog]:
    """Of worker 0 of 2, with a limit of 0.3 s; its thread runs."""
    made = Watchdog()
    made.start(0, 2, 0.3)
    yield made
    made.stop()


def wait_for(exits: list[int]) -> bool:
    waited = threading.Event()
    for _ in range(100):
        if exits:
            return True
        waited.wait(0.05)
    return False


def test_a_piece_of_work_over_the_limit_ends_the_job(
    dog: Watchdog, exits: list[int], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("dpo"), "propagate", True)
    told: list[str] = []
    dog.tell = told.append
    Heartbeats.connect("first", 1, 2).send(beat(1))  # worker 1 was stopped at step 137
    dog.moved("step 138, optimizer")
    assert wait_for(exits) and set(exits) == {1}
    (cause,) = told
    assert "worker 1 (host n1, pid 101) gives no sign of life, last seen at step 137" in cause
    assert cause in caplog.text and "guard.hang_seconds=0.3" in caplog.text
    assert Heartbeats.connect("first", 1, 2).announced() == cause


def test_what_has_no_pieces_has_no_limit(dog: Watchdog, exits: list[int]) -> None:
    dog.moved("loading the model", limited=False)
    threading.Event().wait(1.0)
    assert exits == []


def test_a_stopped_worker_ends_the_job_in_any_work(dog: Watchdog, exits: list[int]) -> None:
    Heartbeats.connect("first", 1, 2).send(beat(1))
    dog.moved("loading the model", limited=False)
    assert wait_for(exits)


def test_work_that_moves_again_in_the_last_moment_goes_on(dog: Watchdog, exits: list[int]) -> None:
    dog.moved("step 1")
    pause = threading.Event()
    while not dog._judging:
        pause.wait(0.01)
    for step in range(2, 12):
        dog.moved(f"step {step}")
        pause.wait(0.05)
    assert exits == []


def test_an_error_of_a_collective_becomes_the_worker_that_is_gone(dog: Watchdog) -> None:
    told: list[str] = []
    dog.tell = told.append
    Heartbeats.connect("first", 1, 2).send(beat(1))
    said = r"worker 1 \(host n1, pid 101\) gives no sign of life"
    with pytest.raises(EnvironmentProblem, match=said), dog.explained():
        raise RuntimeError("[gloo/transport/tcp/pair.cc:525] Connection closed by peer [127.0.0.1]:47011")
    assert len(told) == 1 and "worker 1" in told[0]


def test_an_error_of_a_collective_becomes_what_the_other_worker_died_of(dog: Watchdog, server: dist.TCPStore) -> None:
    other = Watchdog()
    other._heartbeats = Heartbeats.connect("first", 1, 2)
    with pytest.raises(KeyError), other.explained():
        raise KeyError("rope_theta")
    said = r"worker 1 \(host .*\) ended: KeyError: 'rope_theta'"
    with pytest.raises(EnvironmentProblem, match=said), dog.explained():
        raise RuntimeError("Connection closed by peer")


def test_an_error_of_a_collective_stays_where_all_workers_live(dog: Watchdog) -> None:
    stop = threading.Event()

    def live() -> None:
        number = 0
        while not stop.wait(0.05):
            Heartbeats.connect("first", 1, 2).send(beat(1, number=(number := number + 1)))

    thread = threading.Thread(target=live)
    thread.start()
    try:
        with pytest.raises(RuntimeError, match="unhandled NCCL error"), dog.explained():
            raise RuntimeError("unhandled NCCL error")
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The store does not answer, as over a network that is cut without notice."""
    cut, latest = threading.Event(), Heartbeats._latest

    def ask(self: Heartbeats, rank: int) -> Beat | None:
        cut.wait(30)
        return latest(self, rank)

    monkeypatch.setattr(Heartbeats, "_latest", ask)
    yield
    cut.set()


@pytest.mark.usefixtures("unreachable")
def test_a_store_out_of_reach_ends_a_worker_that_stands_still(
    dog: Watchdog, exits: list[int], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("dpo"), "propagate", True)
    assert dog._heartbeats
    dog._heartbeats.main = beat(0)
    dog.moved("loading the model", limited=False)
    assert wait_for(exits)
    assert "does not reach the machine of worker 0 (host n1, pid 100), last heard of at step 137" in caplog.text


@pytest.mark.usefixtures("unreachable")
def test_a_store_out_of_reach_alone_ends_nothing(server: dist.TCPStore, exits: list[int]) -> None:
    """The network may come back before guard.hang_seconds."""
    made, asked = Watchdog(), threading.Event()
    made.heed = lambda cause: asked.set()
    made.start(0, 2, limit_seconds=1000.0)
    made.moved("step 1")
    assert not asked.wait(1.0)
    made.stop()
    assert exits == []


@pytest.mark.usefixtures("unreachable")
def test_an_error_of_a_collective_over_a_network_that_is_cut(dog: Watchdog) -> None:
    with pytest.raises(EnvironmentProblem, match="does not reach the machine of worker 0"), dog.explained():
        raise RuntimeError("Connection timed out")


def test_what_another_worker_ended_of_is_heeded_where_this_one_works_by_itself(
    server: dist.TCPStore, exits: list[int]
) -> None:
    """Asked to stop first, for which a long limit is not waited; ended where that does not help."""
    made, asked = Watchdog(), threading.Event()
    made.heed = lambda cause: asked.set() if "no such file" in cause else None
    made.start(0, 2, limit_seconds=1000.0)
    try:
        made.moved("the data", limited=False)
        Heartbeats.connect("first", 1, 2).announce("worker 1 (host n2, pid 7) ended: no such file")
        assert asked.wait(30)
        assert wait_for(exits)
    finally:
        made.stop()


def test_a_launcher_that_is_gone_is_heeded_and_ends_nothing(
    server: dist.TCPStore, exits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its workers save and leave, and this one with them."""
    made, asked = Watchdog(), threading.Event()
    made.heed = lambda cause: asked.set() if "launcher of worker 0" in cause else None

    def gone(self: Heartbeats) -> None:
        raise dist.DistNetworkError("Connection reset by peer")

    monkeypatch.setattr(Heartbeats, "hear", gone)
    made.start(0, 2, limit_seconds=1000.0)
    assert asked.wait(30)
    threading.Event().wait(0.6)
    made.stop()
    assert exits == []


def test_a_late_answer_of_the_store_is_no_end(
    server: dist.TCPStore, exits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, asked, tries = Watchdog(), threading.Event(), []
    made.heed = lambda cause: asked.set()

    def late(self: Heartbeats) -> None:
        tries.append(1)
        raise dist.DistStoreError("wait timeout after 5000ms")

    monkeypatch.setattr(Heartbeats, "hear", late)
    made.start(0, 2, limit_seconds=1000.0)
    assert not asked.wait(1.0) and len(tries) > 1
    made.stop()
    assert exits == []


def test_a_judgement_ends_when_the_work_moves(store: dist.Store) -> None:
    """Else the next one would wait for it: a minute, over work without a limit."""
    hearts = Heartbeats(store, 0, 2)
    asked: list[bool] = []

    def needed() -> bool:
        asked.append(True)
        return len(asked) < 3

    hearts.send(beat(0))
    assert hearts.look(3600.0, needed) == ([], []) and len(asked) == 3


def test_alone_nothing_is_watched() -> None:
    before = set(threading.enumerate())
    alone = Watchdog()
    alone.start(0, 1, 0.1)
    alone.moved("step 1")
    with pytest.raises(ValueError, match="mine"), alone.explained():
        raise ValueError("mine")
    assert set(threading.enumerate()) <= before


def test_without_a_store_the_run_goes_on(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(logging.getLogger("dpo"), "propagate", True)
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    Watchdog().start(0, 2, 0.1)
    assert "no heartbeats" in caplog.text
