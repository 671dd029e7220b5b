"""Through which network interface gloo speaks to other machines: the one on the way to worker 0's. Gloo's own choice is
the address of this machine's name, on Debian 127.0.1.1, under which every machine finds itself."""

import logging
import os
import socket
from collections.abc import Iterator

import psutil

log = logging.getLogger(__name__)

VARIABLE = "GLOO_SOCKET_IFNAME"  # read by torch where it makes a gloo group


def choose_interface() -> None:
    """Set GLOO_SOCKET_IFNAME in a job of several machines, unless it is set. NCCL's choice is left to NCCL, which knows
    about faster networks than the one that MASTER_ADDR is on."""
    size, here = os.environ.get("WORLD_SIZE", "1"), os.environ.get("LOCAL_WORLD_SIZE")
    if here in (None, size) or VARIABLE in os.environ or "MASTER_ADDR" not in os.environ:
        return
    master = os.environ["MASTER_ADDR"]
    if found := interface_to(master) or only_interface():
        name, address = found
        os.environ[VARIABLE] = name
        log.info("network: gloo speaks over %s (%s), the way to worker 0; %s names another", name, address, VARIABLE)
    else:
        log.warning(
            "network: MASTER_ADDR=%s names no interface of this machine, and it has several: gloo takes the address "
            "of the machine's name; if the others cannot connect to that, set %s here",
            master,
            VARIABLE,
        )


def interface_to(host: str) -> tuple[str, str] | None:
    """(name, own address) of the interface through which `host` is reached; None for this machine to itself."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(address)  # of a datagram socket: looks up the route, sends nothing
            own = str(probe.getsockname()[0])
    except OSError as error:
        log.debug("no route to %s: %s", host, error)
        return None
    return next((found for found in _interfaces() if found[1] == own), None)


def only_interface() -> tuple[str, str] | None:
    """The one that leads to other machines, where there is no choice: on machine 0 its own name may be a loopback."""
    found = {name: address for name, address in _interfaces() if ":" not in address}
    return next(iter(found.items())) if len(found) == 1 else None


def _interfaces() -> Iterator[tuple[str, str]]:
    """(name, address), without the loopback."""
    for name, entries in psutil.net_if_addrs().items():
        for entry in entries:
            if entry.family in (socket.AF_INET, socket.AF_INET6) and name != "lo":
                yield name, entry.address.partition("%")[0]
