"""A Docker engine of the tests' own, and the project's image built on it, on a base of Debian packages: no registry
needs to be at hand. The Dockerfile is used as it is."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from launch import ROOT

TOOLS = ("dockerd", "docker", "debootstrap")
MIRROR = "http://deb.debian.org/debian"
PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"
START_SECONDS, STOP_SECONDS = 60, 30
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


@contextmanager
def engine(folder: Path) -> Iterator[dict[str, str]]:
    """Variables with which `docker` reaches an engine that is gone afterwards, with all its containers."""
    missing = [name for name in TOOLS if shutil.which(name) is None]
    if os.geteuid() or missing:
        pytest.skip("needs root" if os.geteuid() else f"needs {', '.join(missing)} (docker.io, debootstrap)")
    socket, log = folder / "docker.sock", folder / "log"
    places = ["--data-root", str(folder / "data"), "--exec-root", str(folder / "exec"), "-p", str(folder / "pid")]
    # Without a firewall and a bridge of its own it changes nothing of this machine's network.
    network = ["--bridge=none", "--iptables=false", "--ip6tables=false"]
    with log.open("w") as output:
        command = ["dockerd", *places, *network, "-H", f"unix://{socket}"]
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    # Debian's client, which belongs to the engine: another one that is first on the PATH may not know how to build.
    path = f"/usr/bin{os.pathsep}{os.environ['PATH']}"
    environment = {"DOCKER_HOST": f"unix://{socket}", "DOCKER_BUILDKIT": "1", "PATH": path}
    try:
        _wait_until_ready(process, environment, log)
        yield environment
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
        _unmount(folder)


def _wait_until_ready(process: "subprocess.Popen[bytes]", environment: dict[str, str], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        if subprocess.run(["docker", "info"], env={**os.environ, **environment}, capture_output=True).returncode == 0:
            return
        time.sleep(0.2)
    pytest.skip(f"no Docker engine can be started here: {log.read_text().splitlines()[-1:]}")


def _unmount(folder: Path) -> None:
    """What an engine that was killed leaves: pytest could not remove the folder below it."""
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        if (point := line.split()[1]).startswith(f"{folder}/"):
            subprocess.run(["umount", "--lazy", point], check=False, capture_output=True)


def build(folder: Path, environment: dict[str, str], *arguments: str) -> str:
    """The image `dpo`, from the checkout. Returns the build's log."""
    _make_base(folder / "base", environment)
    command = ["docker", "build", "--network", "host", "--progress", "plain", "--build-arg", "BASE_IMAGE=dpo-base"]
    done = subprocess.run(
        [*command, *arguments, "--tag", "dpo", str(ROOT)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def _make_base(folder: Path, environment: dict[str, str]) -> None:
    """Debian with Python, as the image `dpo-base`, with this machine's ways to a package index."""
    made = subprocess.run(
        ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(folder), MIRROR],
        capture_output=True,
        text=True,
    )
    if made.returncode:
        pytest.skip(f"debootstrap finds no Debian at {MIRROR}: {made.stdout.splitlines()[-1:]}")
    if CERTIFICATES.is_file():
        shutil.copy(CERTIFICATES, folder / CERTIFICATES.relative_to("/"))
    settings = ["[global]", f"cert = {CERTIFICATES}"]
    for wheels in os.environ.get("PIP_FIND_LINKS", "").split():
        if Path(wheels).is_dir():
            shutil.copytree(wheels, folder / wheels.lstrip("/"), dirs_exist_ok=True)
        settings.append(f"find-links = {wheels}")
    (folder / "etc/pip.conf").write_text("\n".join([*settings, ""]))
    packed = subprocess.Popen(["tar", "-C", str(folder), "-c", "."], stdout=subprocess.PIPE)
    imported = ["docker", "import", "-", "dpo-base"]
    subprocess.run(imported, stdin=packed.stdout, env={**os.environ, **environment}, check=True, capture_output=True)
    assert packed.wait() == 0
    shutil.rmtree(folder)
