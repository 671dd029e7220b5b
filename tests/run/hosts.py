"""Two machines that are none: network namespaces joined by a switch, with host names and folders of their own."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from launch import ROOT, Ended, environment, finish

TOOLS = ("ip", "nsenter", "unshare")
ADDRESSES = ("10.99.0.1", "10.99.0.2")
PREFIX = "dpo-test"

# As a machine comes up: its name, its /etc/hosts, no name server (which is out of reach, and would be waited for), and its
# disk, under the same path on both. Then the command.
BOOT = """
hostname "$1"; mount --bind "$2" /etc/hosts; mount --bind /dev/null /etc/resolv.conf; mount --bind "$3" "$4"; cd "$4"; shift 4; exec "$@"
"""


class Host:
    """One of the machines."""

    def __init__(self, number: int, disk: Path, folder: Path, hosts: Path):
        self.number, self.name, self.namespace = number, f"host{number}", _namespace(f"host{number}")
        self.disk = disk  # what it sees at `folder`
        self._boot = [self.name, str(hosts), str(disk), str(folder)]

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """In a process group of its own, with `folder` as the current one."""
        inside = ["nsenter", f"--net=/run/netns/{self.namespace}", "unshare", "--uts", "--mount"]
        return subprocess.Popen(
            [*inside, "sh", "-ec", BOOT, "sh", *self._boot, *arguments],
            env=environment(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def processes(self) -> list[int]:
        """Of whatever runs there."""
        return [int(pid) for pid in _ip("netns", "pids", self.namespace).split()]


class Hosts:
    """Both, and what lies between them."""

    def __init__(self, folder: Path, shared: bool):
        """`folder`: of each machine's own disk, or of the one that they share."""
        place = folder / "disk"  # where each finds its own; here it stays empty
        place.mkdir()
        self.all = []
        for number in range(2):
            disk = folder / ("shared" if shared else f"host{number}")
            disk.mkdir(exist_ok=True)
            self.all.append(Host(number, disk, place, self._names(folder, number)))

    def _names(self, folder: Path, number: int) -> Path:
        """/etc/hosts as Debian writes it: a machine's own name is 127.0.1.1."""
        lines = ["127.0.0.1 localhost"]
        lines += [f"{'127.0.1.1' if i == number else ADDRESSES[i]} host{i}" for i in range(2)]
        file = folder / f"hosts{number}"
        file.write_text("\n".join([*lines, ""]))
        return file

    def launch(self, *overrides: str, **variables: str) -> "list[subprocess.Popen[str]]":
        """launch/local.sh on both, with one process each."""
        job = {"NODES": "2", "NPROC": "1", "MASTER_ADDR": ADDRESSES[0], "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "5"}
        script = str(ROOT / "launch" / "local.sh")
        return [
            host.start(script, *overrides, **{**job, "NODE_RANK": str(host.number), **variables}) for host in self.all
        ]

    def finish(self, launched: "list[subprocess.Popen[str]]", name: str, limit_seconds: int = 120) -> list[Ended]:
        """What each leaves behind in its own output folder."""
        try:
            ends = [finish(process, limit_seconds) for process in launched]
        finally:
            self.end()
        return [
            Ended(code=code, output=output, folder=host.disk / name)
            for (code, output), host in zip(ends, self.all, strict=True)
        ]

    def train(self, *overrides: str, name: str, **variables: str) -> list[Ended]:
        ended = self.finish(self.launch(*overrides, f"name={name}", **variables), name)
        assert all(end.code == 0 for end in ended), "\n".join(end.output for end in ended)
        return ended

    def pull(self, number: int) -> None:
        """That machine's own end of the cable: it knows, the other one does not."""
        _ip("-n", self.all[number].namespace, "link", "set", "eth0", "down")

    def drop(self, number: int) -> None:
        """The switch forwards nothing to it or from it any more: no machine is told."""
        _ip("-n", _namespace("switch"), "link", "set", f"port{number}", "nomaster")

    def mend(self) -> None:
        for number, host in enumerate(self.all):
            _ip("-n", host.namespace, "link", "set", "eth0", "up")
            _ip("-n", _namespace("switch"), "link", "set", f"port{number}", "master", "switch0")

    def end(self) -> None:
        for pid in (pid for host in self.all for pid in host.processes()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def missing() -> str:
    """Why this machine cannot play two; empty when it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if lacking := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"network namespaces need {', '.join(lacking)} (Debian: iproute2, util-linux)"
    try:
        with _network():
            return ""
    except subprocess.CalledProcessError as error:
        return f"network namespaces are not to be had here: {error.stderr.strip()}"


@contextmanager
def two_hosts(folder: Path, shared: bool = False) -> Iterator[Hosts]:
    """Gone, with everything that runs on them, when the block ends."""
    with _network():
        hosts = Hosts(folder, shared)
        try:
            yield hosts
        finally:
            hosts.end()


@contextmanager
def _network() -> Iterator[None]:
    """host0 - switch - host1."""
    names = ["switch", "host0", "host1"]
    try:
        for name in names:
            _ip("netns", "add", _namespace(name))
            _ip("-n", _namespace(name), "link", "set", "lo", "up")
        _ip("-n", _namespace("switch"), "link", "add", "switch0", "type", "bridge")
        _ip("-n", _namespace("switch"), "link", "set", "switch0", "up")
        for number, address in enumerate(ADDRESSES):
            _plug(number, address)
        yield
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", _namespace(name)], capture_output=True, check=False)


def _plug(number: int, address: str) -> None:
    host, switch, port = _namespace(f"host{number}"), _namespace("switch"), f"port{number}"
    _ip("-n", host, "link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", switch)
    _ip("-n", switch, "link", "set", port, "master", "switch0", "up")
    _ip("-n", host, "address", "add", f"{address}/24", "dev", "eth0")
    _ip("-n", host, "link", "set", "eth0", "up")


def _namespace(name: str) -> str:
    """Of this test process alone."""
    return f"{PREFIX}-{os.getpid()}-{name}"


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True).stdout


def wait_until_empty(host: Host, seconds: float) -> bool:
    """Whether nothing runs there within that time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not host.processes():
            return True
        time.sleep(0.1)
    return False
