"""Whether a Weights & Biases server can be used at all: credentials, and a way to it."""

import netrc
import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from dpo.track.limits import within

CONNECT_SECONDS = 3.0  # may a TCP connection take


def has_key(base_url: str, environment: Mapping[str, str]) -> bool:
    """Whether wandb will find credentials for the server: in the environment or in the user's netrc file."""
    if environment.get("WANDB_API_KEY", "").strip() or environment.get("WANDB_IDENTITY_TOKEN_FILE", "").strip():
        return True
    home = Path(environment.get("HOME", "~")).expanduser()
    path = Path(environment["NETRC"]).expanduser() if environment.get("NETRC") else home / ".netrc"
    host = urlsplit(base_url).netloc
    # wandb 0.31 moved its default server to the first name; the keys of earlier logins stand under the second.
    hosts = [host, "api.wandb.ai"] if host == "api.forge.coreweave.com" else [host]
    try:
        entries = netrc.netrc(path)
    except (OSError, netrc.NetrcParseError):
        return False
    return any(entry and entry[2] for entry in map(entries.authenticators, hosts))


def can_connect(base_url: str) -> bool:
    """Whether the server, or the proxy in front of it, accepts a TCP connection within CONNECT_SECONDS.

    Compute nodes often have no way out; this tells so at once, where wandb.init would use up its whole limit.
    """
    url = urlsplit(base_url)
    proxy = getproxies().get(url.scheme)
    if proxy and not proxy_bypass(url.hostname or ""):
        url = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    port = url.port or {"http": 80}.get(url.scheme, 443)
    try:
        # In a thread of its own because looking up the name is not bound by the socket's limit.
        within(2 * CONNECT_SECONDS, lambda: socket.create_connection((url.hostname, port), CONNECT_SECONDS).close())
    except Exception:
        return False
    return True
