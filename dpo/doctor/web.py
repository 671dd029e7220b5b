"""One request to a server: does it answer, and what time does it think it is?"""

import os
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, getproxies, urlopen

from dpo.track.limits import first_line, within

SECONDS = 6.0


@dataclass(kw_only=True, slots=True)
class Answer:
    status: int  # HTTP's; 0: none came
    why: str = ""  # none came
    ahead_seconds: float | None = None  # this clock before the server's, to half a second; None: it did not say


def ask(url: str) -> Answer:
    """By HEAD, through the proxies of the environment, within SECONDS."""
    try:
        return within(SECONDS, lambda: _head(url))
    except Exception as error:  # time-outs, names, certificates: each library has its own family
        return Answer(status=0, why=str(getattr(error, "reason", "") or first_line(error)))


def _head(url: str) -> Answer:
    began = time.time()
    try:
        with urlopen(Request(url, method="HEAD"), timeout=SECONDS) as answer:
            status, said = answer.status, answer.headers["Date"]
    except HTTPError as error:
        status, said = error.code, error.headers["Date"]
    if not said:
        return Answer(status=status)
    # The server looked at its clock, which it gives in whole seconds, between asking and now.
    middle = (began + time.time()) / 2
    return Answer(status=status, ahead_seconds=middle - parsedate_to_datetime(said).timestamp() - 0.5)


def hub_url() -> str:
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"


def proxies() -> dict[str, str]:
    """Host and port of each, by protocol, without user and password."""
    found = {}
    for protocol, address in getproxies().items():
        if protocol in ("http", "https", "all"):
            url = urlsplit(address if "://" in address else f"http://{address}")
            found[protocol] = f"{url.hostname}:{url.port or 80}"
    return found
