"""Workers that are started again agree on a name for the start, whatever killed ones left in the store."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch.distributed as dist

from dpo.distributed import launcher
from dpo.distributed.heartbeats import Heartbeats
from dpo.distributed.rendezvous import agree_on_start
from dpo.errors import EnvironmentProblem

pytestmark = pytest.mark.unit

LIMIT = timedelta(seconds=20)


def start_all(store: dist.Store, size: int, late: int) -> list[str]:
    """What each rank calls the start; rank `late` comes when the others have been waiting for a while."""

    def worker(rank: int) -> str:
        if rank == late:
            threading.Event().wait(0.2)
        return agree_on_start(store, rank, size, LIMIT)

    with ThreadPoolExecutor(size) as threads:
        return list(threads.map(worker, range(size)))


@pytest.mark.parametrize("late", [0, 2])
def test_every_start_has_a_name_of_its_own_that_all_know(late: int) -> None:
    store, names = dist.HashStore(), set()
    for _ in range(4):
        found = start_all(store, 3, late)
        assert len(set(found)) == 1
        names.add(found[0])
    assert len(names) == 4


def test_killed_between_hello_and_the_answer() -> None:
    store = dist.HashStore()
    with pytest.raises(EnvironmentProblem, match=r"workers \[1, 2\] have not joined"):
        agree_on_start(store, 0, 3, timedelta(seconds=0.1))
    with pytest.raises(EnvironmentProblem, match=r"workers \[2\] have not joined"):
        agree_on_start(store, 2, 3, timedelta(seconds=0.1))
    assert len(set(start_all(store, 3, 1))) == 1


def test_a_start_does_not_see_the_beats_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    server = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=LIMIT)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(server.port))
    Heartbeats.connect("a", 0, 1).announce("old")
    assert Heartbeats.connect("a", 0, 1).announced() == "old"
    assert Heartbeats.connect("b", 0, 1).announced() is None


@pytest.mark.parametrize(
    ("shared", "most", "expected"), [("True", "1", True), ("True", "0", False), ("False", "3", False)]
)
def test_only_where_workers_may_be_started_again(
    shared: str, most: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", shared)
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", most)
    assert launcher.may_restart() is expected
