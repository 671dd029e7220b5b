"""What the doctor says of the world outside: servers with a wrong clock, dead proxies, hubs out of reach."""

import socket
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from doctor_node import one

from dpo.doctor import network, web
from dpo.doctor.finding import Job
from dpo.doctor.web import ask

pytestmark = pytest.mark.unit

JOB = Job(path=Path())
VARIABLES = (
    "HF_ENDPOINT",
    "HF_HUB_OFFLINE",
    "HF_HOME",
    "HF_HUB_CACHE",
    "WANDB_BASE_URL",
    "WANDB_API_KEY",
    "MASTER_ADDR",
)
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of the machine's own."""
    for name in (*VARIABLES, *PROXIES, *(name.upper() for name in PROXIES)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{closed_port()}")


class Server(ThreadingHTTPServer):
    """Answers every HEAD; `ahead` seconds before the time that it is."""

    daemon_threads = True
    ahead, status = 0.0, 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        assert isinstance(self.server, Server)
        self.send_response_only(self.server.status)
        self.send_header("Date", formatdate(time.time() + self.server.ahead, usegmt=True))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found
        found.shutdown()


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize(
    ("ahead", "level", "said"),
    [
        (0, "ok", "within 10 s"),
        (60, "warn", "60 s behind"),
        (-60, "warn", "60 s ahead of"),
        (3600, "fail", "s behind"),
    ],
)
def test_clocks(
    ahead: float, level: str, said: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.ahead = ahead
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    finding = one(network.check_clock(Job(path=tmp_path)), level)
    # A second passes in between at most; the servers of a busy machine take longer.
    assert said in finding.text or said.replace("60", "59") in finding.text or said.replace("60", "61") in finding.text
    assert list(tmp_path.iterdir()) == []


def test_a_clock_without_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed_port()}")
    assert "not compared" in one(network.check_clock(Job(path=tmp_path)), "ok").text


def test_a_server_that_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        answer = ask(f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert answer.status == 0 and answer.why


def keep(cache: Path, kind: str, name: str) -> None:
    """As the hub's client keeps it."""
    file = cache / f"{kind}--{name.replace('/', '--')}" / "snapshots" / "abc" / "config.json"
    file.parent.mkdir(parents=True)
    file.write_text("{}")


def test_the_hub(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    wants = Job(path=tmp_path, models=["owner/model", str(tmp_path)], data=["owner/pairs", "pairs/*.jsonl"])
    assert "owner/model, owner/pairs must come" in one(network.check_hub(wants), "ok").text
    server.status = 503
    assert "does not answer (503)" in one(network.check_hub(wants), "fail").text
    one(network.check_hub(JOB), "warn")
    server.status = 401  # a mirror that wants a token answers all the same
    one(network.check_hub(wants), "ok")


def test_the_hub_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    wants = Job(path=tmp_path, models=["owner/model"], data=["owner/pairs"])
    keep(tmp_path / "hub", "models", "owner/model")
    finding = one(network.check_hub(wants), "fail")
    assert "owner/pairs must come" in finding.text and "owner/model" not in finding.text
    keep(tmp_path / "hub", "datasets", "owner/pairs")
    one(network.check_hub(wants), "ok")


def test_a_dead_proxy_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    assert one(network.check_proxies(JOB), "ok").text == "none"
    port = closed_port()
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:secret@127.0.0.1:{port}")
    finding = one(network.check_proxies(JOB), "fail")
    assert f"127.0.0.1:{port}" in finding.text and "secret" not in finding.text


def test_a_proxy_that_answers(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", server.url)
    assert f"https through {server.url.removeprefix('http://')}" in one(network.check_proxies(JOB), "ok").text


def test_wandb(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    for mode in ("off", "offline", "auto"):
        one(network.check_wandb(Job(path=Path(), wandb=mode)), "ok")
    assert "no API key" in one(network.check_wandb(Job(path=Path(), wandb="online")), "fail").text
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    assert f"{server.url} answers" in one(network.check_wandb(Job(path=Path(), wandb="online")), "ok").text
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{closed_port()}")
    assert "cannot be reached" in one(network.check_wandb(Job(path=Path())), "warn").text


def test_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "no-such-host.invalid")
    assert "this host's own name" in one(network.check_host(JOB), "warn").text
    monkeypatch.setattr(socket, "gethostname", lambda: "localhost")
    assert "localhost is 127.0.0.1" in one(network.check_host(JOB), "ok").text
    monkeypatch.setenv("MASTER_ADDR", "no-such-host.invalid")
    assert "MASTER_ADDR=no-such-host.invalid" in one(network.check_host(JOB), "fail").text
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    assert "MASTER_ADDR=127.0.0.1 is 127.0.0.1" in one(network.check_host(JOB), "ok").text
