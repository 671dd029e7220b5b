"""Before several machines are launched: is machine 0 where MASTER_ADDR says?"""

import logging
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from dpo.distributed import master, network
from dpo.distributed.master import main, require_own, resolve, wait_for
from dpo.distributed.network import choose_interface, interface_to
from dpo.errors import ConfigError, EnvironmentProblem

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(master, "setup_logging", lambda is_main: None)
    monkeypatch.setattr(logging.getLogger("dpo"), "propagate", True)
    caplog.set_level(logging.INFO, "dpo")
    monkeypatch.setattr(master, "ASK_SECONDS", 0.05)


@pytest.fixture
def listening() -> Iterator[int]:
    """The port of a master that is there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def free() -> int:
    """A port where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_a_master_that_listens_is_found(listening: int) -> None:
    wait_for("127.0.0.1", listening, 0)


def test_one_that_comes_later_is_waited_for(free: int, caplog: pytest.LogCaptureFixture) -> None:
    found = threading.Event()

    def wait() -> None:
        wait_for("127.0.0.1", free, 60)
        found.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert not found.wait(0.3)
    with socket.create_server(("127.0.0.1", free)):
        assert found.wait(60)
    thread.join()
    assert caplog.text.count("waiting up to 60 s: machine 0 at 127.0.0.1:") == 1, "said at once, and not all the time"
    assert "Connection refused (that machine is there, but nothing listens" in caplog.text


def test_one_that_never_comes(free: int) -> None:
    with pytest.raises(EnvironmentProblem, match=r"Connection refused .*Given up after 0.2 s; MASTER_WAIT="):
        wait_for("127.0.0.1", free, 0.2)


def test_a_name_that_means_nothing() -> None:
    with pytest.raises(EnvironmentProblem, match=r"MASTER_ADDR=no\.such\.invalid cannot be resolved.*getent hosts"):
        resolve("no.such.invalid")
    with pytest.raises(EnvironmentProblem, match=r"cannot be resolved.*Given up after 0 s"):
        wait_for("no.such.invalid", 29500, 0)


def test_machine_0_is_not_to_be_found_at_loopback(free: int) -> None:
    """Debian's /etc/hosts: a machine's own name is 127.0.1.1."""
    with pytest.raises(ConfigError, match=r"MASTER_ADDR=localhost is \S+ here, which leads every machine to itself"):
        require_own("localhost", free)


def test_the_address_of_another_machine(free: int) -> None:
    """192.0.2.0/24 is nobody's (RFC 5737)."""
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1 \(192\.0\.2\.1\) is no address of this machine.*NODE_RANK=0"):
        require_own("192.0.2.1", free)


def test_a_port_that_is_taken(listening: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Public:
        """127.0.0.1, taken for an address that others reach."""

        is_loopback = False

    monkeypatch.setattr(master.ipaddress, "ip_address", lambda address: Public())
    with pytest.raises(EnvironmentProblem, match=f"MASTER_PORT={listening} is in use on this machine"):
        require_own("127.0.0.1", listening)


@pytest.mark.parametrize(("machines", "number"), [("2", "2"), ("two", "0"), ("2", "-1")])
def test_numbers_that_cannot_be(machines: str, number: str, caplog: pytest.LogCaptureFixture) -> None:
    assert main([machines, number, "127.0.0.1", "29500", "0"]) == 2
    assert f"NODES={machines} NODE_RANK={number}" in caplog.text


def test_the_exit_code_and_what_is_said(listening: int, caplog: pytest.LogCaptureFixture) -> None:
    assert main(["2", "1", "127.0.0.1", str(listening), "0"]) == 0
    assert f"machine 1 of 2: machine 0 answers at 127.0.0.1:{listening}" in caplog.text
    assert main(["2", "0", "192.0.2.1", "29500", "0"]) == 2
    assert main(["2", "1", "no.such.invalid", "29500", "0"]) == 1, "keep.sh tries again: name servers come back"


def test_local_sh_asks_for_what_several_machines_need(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "launch" / "local.sh"
    known = {"PATH": os.environ["PATH"], "NODES": "2"}
    for given, wanted in (({}, "NODE_RANK"), ({"NODE_RANK": "1"}, "MASTER_ADDR")):
        done = subprocess.run(
            [script], cwd=tmp_path, env={**known, **given}, capture_output=True, text=True, check=False
        )
        assert done.returncode != 0 and f"{wanted}: is the" in done.stderr


def test_the_way_to_this_machine_itself_is_no_interface() -> None:
    assert interface_to("127.0.0.1") is None
    assert interface_to("no.such.invalid") is None


@pytest.fixture
def two_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(network.VARIABLE, raising=False)
    for name, value in {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)


def machine(monkeypatch: pytest.MonkeyPatch, **addresses: str) -> None:
    """A machine with these interfaces."""
    known = {
        name: [
            SimpleNamespace(family=socket.AF_PACKET, address="aa:bb"),
            SimpleNamespace(family=socket.AF_INET, address=ip),
        ]
        for name, ip in {"lo": "127.0.0.1", **addresses}.items()
    }
    monkeypatch.setattr(network.psutil, "net_if_addrs", lambda: known)


@pytest.mark.usefixtures("two_machines")
def test_gloo_is_given_the_interface_on_the_way_to_worker_0(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the loopback, under another name."""
    machine(monkeypatch, ib0="10.1.0.1", eth1="127.0.0.1")
    choose_interface()
    assert os.environ.pop(network.VARIABLE) == "eth1"


@pytest.mark.usefixtures("two_machines")
def test_a_master_that_is_a_loopback_leaves_the_only_interface_or_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    machine(monkeypatch, eth0="10.0.0.1")
    choose_interface()
    assert os.environ.pop(network.VARIABLE) == "eth0" and "names no interface" not in caplog.text
    machine(monkeypatch, eth0="10.0.0.1", ib0="10.1.0.1")
    choose_interface()
    assert network.VARIABLE not in os.environ and "MASTER_ADDR=127.0.0.1 names no interface" in caplog.text


@pytest.mark.usefixtures("two_machines")
@pytest.mark.parametrize(("name", "value"), [(network.VARIABLE, "eth7"), ("LOCAL_WORLD_SIZE", "4")])
def test_it_is_left_to_the_user_and_on_one_machine_to_gloo(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "interface_to", lambda host: ("eth1", "10.0.0.1"))
    monkeypatch.setenv(name, value)
    choose_interface()
    assert os.environ.get(network.VARIABLE) == ("eth7" if name == network.VARIABLE else None)
