"""What lies outside the node: its own name, proxies, Weights & Biases, the hub, the time."""

import os
import socket
import time
from pathlib import Path

from dpo.doctor.finding import Finding, Job, fail, ok, warn
from dpo.doctor.hub import absent
from dpo.doctor.web import ask, hub_url, proxies
from dpo.track import wandb_tracker
from dpo.track.limits import first_line, within
from dpo.track.reach import can_connect, has_key

NAME_SECONDS, PROXY_SECONDS = 5.0, 3.0
LATE_SECONDS, WRONG_SECONDS = 10.0, 300.0  # signed requests to storage are refused from some five minutes on
OFFLINE = ("1", "true", "yes", "on")


def check_host(job: Job) -> list[Finding]:
    """Workers find each other by name."""
    own, main = socket.gethostname(), os.environ.get("MASTER_ADDR", "")
    address, why = _address(own)
    findings = [] if address else [warn(f"{own}, this host's own name: {why}", "a line in /etc/hosts")]
    if main:
        there, why = _address(main)
        cure = "DNS or /etc/hosts on every node, or its address as a number"
        findings.append(ok(f"MASTER_ADDR={main} is {there}") if there else fail(f"MASTER_ADDR={main}: {why}", cure))
    return findings or [ok(f"{own} is {address}")]


def _address(name: str) -> tuple[str, str]:
    """(address, ""), or ("", why there is none)."""
    try:
        return within(NAME_SECONDS, lambda: socket.gethostbyname(name)), ""
    except Exception as error:
        return "", first_line(error)


def check_proxies(job: Job) -> list[Finding]:
    found = proxies()
    closed = [address for address in dict.fromkeys(found.values()) if not _open(address)]
    if closed:
        cure = "unset HTTPS_PROXY HTTP_PROXY ALL_PROXY, or set them to the proxy of this network"
        return [fail(f"no proxy answers at {', '.join(closed)}", cure)]
    return [ok(", ".join(f"{protocol} through {at}" for protocol, at in found.items()) or "none")]


def _open(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        within(2 * PROXY_SECONDS, lambda: socket.create_connection((host, int(port)), PROXY_SECONDS).close())
    except Exception:
        return False
    return True


def check_wandb(job: Job) -> list[Finding]:
    if job.wandb in ("off", "offline"):
        return [ok(f"{job.wandb}, as asked: no server is needed")]
    server = wandb_tracker.server()
    if not has_key(server, os.environ):
        if job.wandb == "online":
            return [
                fail(f"no API key for {server}", "export WANDB_API_KEY=..., or wandb login; or track.wandb=offline")
            ]
        return [ok("no API key: runs are logged offline")]
    if not can_connect(server):
        cure = (
            "an outgoing route or HTTPS_PROXY; the run logs offline and `wandb sync` uploads it, or WANDB_MODE=offline"
        )
        return [warn(f"{server} cannot be reached", cure)]
    return [ok(f"{server} answers")]


def check_hub(job: Job) -> list[Finding]:
    missing = absent(job)
    names = f"{', '.join(missing)} must come from the hub" if missing else "nothing is missing in this node's cache"
    if os.environ.get("HF_HUB_OFFLINE", "").strip().lower() in OFFLINE:
        if missing:
            cure = (
                "unset HF_HUB_OFFLINE, or fetch them on a node with network into the same HF_HOME: hf download <name>"
            )
            return [fail(f"HF_HUB_OFFLINE is set, and {names}", cure)]
        return [ok(f"HF_HUB_OFFLINE is set: {names}")]
    answer = ask(hub_url())
    if answer.status == 0 or answer.status >= 500:
        worse = fail if missing else warn
        cure = "HTTPS_PROXY or HF_ENDPOINT=<a mirror>; or fetch all beforehand and set HF_HUB_OFFLINE=1"
        return [worse(f"{hub_url()} does not answer ({answer.why or answer.status}), {names}", cure)]
    return [ok(f"{hub_url()} answers: {names}")]


def check_clock(job: Job) -> list[Finding]:
    """Against the first server that tells the time, and against the file server of the output."""
    for server in (hub_url, wandb_tracker.server):
        answer = ask(url := server())
        if answer.ahead_seconds is not None:
            return [clock_finding(url, answer.ahead_seconds), *_file_server(job.path)]
    return [ok("not compared: no server tells the time here"), *_file_server(job.path)]


def clock_finding(server: str, ahead_seconds: float) -> Finding:
    off, side = abs(ahead_seconds), "ahead of" if ahead_seconds > 0 else "behind"
    text = f"this clock is {off:.0f} s {side} {server}"
    cure = "timedatectl set-ntp true, or chronyc makestep"
    if off >= WRONG_SECONDS:
        return fail(text, cure)
    return warn(text, cure) if off >= LATE_SECONDS else ok(f"within {LATE_SECONDS:g} s of {server}")


def _file_server(place: Path) -> list[Finding]:
    """A file that is from the future when it is made: compilers then build again at every launch."""
    folder = next(part for part in (place.absolute(), *place.absolute().parents) if part.is_dir())
    file = folder / f".doctor-{socket.gethostname()}-{os.getpid()}"
    try:
        file.touch(exist_ok=False)
        off = time.time() - file.stat().st_mtime
        file.unlink()
    except OSError:
        return []  # check_disk says so
    if abs(off) < LATE_SECONDS:
        return []
    return [warn(f"{folder}: its file server's clock is {off:+.0f} s from this one", "NTP on both")]
