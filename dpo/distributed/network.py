"""Through which network interface gloo speaks to other machines: derived from the way to worker 0's, as gloo's own choice
is the address of this machine's name, on Debian 127.0.1.1, under which every machine finds itself."""

import logging
import os
import socket

import psutil

log = logging.getLogger(__name__)

VARIABLE = "GLOO_SOCKET_IFNAME"  # read by torch where it makes a gloo group


def choose_interface() -> None:
    """Set GLOO_SOCKET_IFNAME in a job of several machines, unless it is set. NCCL's choice is left to NCCL, which knows
    about faster networks than the one that MASTER_ADDR is on."""
    size, here = os.environ.get("WORLD_SIZE", "1"), os.environ.get("LOCAL_WORLD_SIZE")
    if here in (None, size) or VARIABLE in os.environ or "MASTER_ADDR" not in os.environ:
        return
    if found := interface_to(os.environ["MASTER_ADDR"]):
        name, address = found
        os.environ[VARIABLE] = name
        log.info("network: gloo speaks over %s (%s), the way to worker 0; %s names another", name, address, VARIABLE)


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
    for name, addresses in psutil.net_if_addrs().items():
        if any(entry.address.partition("%")[0] == own for entry in addresses):
            return None if name == "lo" else (name, own)
    return None
