"""Before the launcher of one of several machines: is machine 0 where MASTER_ADDR says? The launcher itself goes on
asking without a word, for minutes, a name that cannot be resolved included (torch 2.13).

    python -m dpo.distributed.master <machines> <number of this one> <MASTER_ADDR> <MASTER_PORT> <seconds to wait>
"""

import errno
import ipaddress
import logging
import socket
import sys
import time

from dpo.errors import ConfigError, EnvironmentProblem, UserError
from dpo.log import setup_logging

log = logging.getLogger("dpo.distributed.master")  # run as a module it is called __main__

TRY_SECONDS = 5.0  # one attempt to connect
ASK_SECONDS = 0.5  # between two
TELL_SECONDS = 10.0  # between two lines that say what is waited for
MEANING = {
    errno.ECONNREFUSED: "that machine is there, but nothing listens: its launch has not begun, or it has another "
    "MASTER_PORT",
    errno.EHOSTUNREACH: "no machine with this address answers on the local network",
    errno.ENETUNREACH: "this machine has no route there",
}
NO_ANSWER = "packets vanish: another address, or a firewall between the two"


def main(arguments: list[str]) -> int:
    """Returns the exit code: 0 when machine 0 can be met, 1 when it is not there yet, 2 when something has to be
    changed first: launch/keep.sh tries again after 1."""
    setup_logging(is_main=True)
    machines, number, address, port, seconds = arguments
    try:
        _require_number(machines, number)
        if number == "0":
            require_own(address, int(port))
            log.info("machine 0 of %s: the others are expected at %s:%s", machines, address, port)
        else:
            wait_for(address, int(port), float(seconds))
            log.info("machine %s of %s: machine 0 answers at %s:%s and shows the log", number, machines, address, port)
    except UserError as problem:
        log.error("%s", problem)
        return 2 if isinstance(problem, ConfigError) else 1
    return 0


def _require_number(machines: str, number: str) -> None:
    if not (machines.isdecimal() and number.isdecimal() and int(number) < int(machines)):
        raise ConfigError(
            [f"NODES={machines} NODE_RANK={number}: NODES is the number of machines, NODE_RANK counts them from 0"]
        )


def require_own(address: str, port: int) -> None:
    """Machine 0 itself.

    Raises:
        ConfigError: the address is another machine's, or means this one only to itself.
        EnvironmentProblem: the name cannot be resolved, or the port is taken.
    """
    found = resolve(address)
    if ipaddress.ip_address(found).is_loopback:
        raise ConfigError(
            [
                f"MASTER_ADDR={address} is {found} here, which leads every machine to itself (/etc/hosts?): give this "
                "machine's address on the network (`ip -brief address` lists them), the same on all machines"
            ]
        )
    family = socket.AF_INET6 if ":" in found else socket.AF_INET
    try:
        socket.create_server((found, port), family=family).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise EnvironmentProblem(
                f"MASTER_PORT={port} is in use on this machine: give another one, the same on all machines"
            ) from error
        raise ConfigError(
            [
                f"MASTER_ADDR={address} ({found}) is no address of this machine, which is NODE_RANK=0: {error.strerror}"
                ". Start it with NODE_RANK=0 on that machine, or give an address of this one (`ip -brief address`)"
            ]
        ) from error


def wait_for(address: str, port: int, seconds: float) -> None:
    """Any other machine: until machine 0 listens.

    Raises:
        EnvironmentProblem: not within `seconds`, with the reason of the last attempt.
    """
    began = told = time.monotonic()
    while True:
        try:
            socket.create_connection((resolve(address), port), timeout=TRY_SECONDS).close()
            return
        except EnvironmentProblem as problem:
            why = str(problem)
        except OSError as error:
            said = error.strerror or "no answer"
            why = f"machine 0 at {address}:{port}: {said} ({MEANING.get(error.errno or 0, NO_ANSWER)})"
        now = time.monotonic()
        if now - began >= seconds:
            raise EnvironmentProblem(f"{why}. Given up after {seconds:g} s; MASTER_WAIT=<seconds> waits longer")
        if told == began or now - told >= TELL_SECONDS:
            log.info("waiting up to %g s: %s", seconds, why)
            told = now
        time.sleep(ASK_SECONDS)


def resolve(name: str) -> str:
    """Its first address. Raises EnvironmentProblem when there is none."""
    try:
        return str(socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise EnvironmentProblem(
            f"MASTER_ADDR={name} cannot be resolved here ({error.strerror}): `getent hosts {name}` must find it on "
            "every machine; an IP address does in any case"
        ) from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
