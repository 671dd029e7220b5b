"""Secrets out of everything that is written down or sent away."""

import os
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any, TextIO, cast

_SECRET_NAME = re.compile(r"(^|_)(token|api_?key|access_key|private_key|secret|password|passwd|credentials?)$", re.I)
_SPECIAL_TOKEN = re.compile(r"(^|_)(eos|bos|pad|unk|sep|cls|mask|image)_token$", re.I)  # settings of a tokenizer
_HIDDEN = "***"
_PATTERNS = [
    (re.compile(pattern), rf"\1{_HIDDEN}")
    for pattern in (
        # Keys of known shapes, as long as they really are: hf_ultrafeedback_binarized is the name of a file.
        r"\b()(?:hf_[A-Za-z0-9]{30,}|gh[a-z]_[A-Za-z0-9]{36,}|github_pat_\w{40,}|glpat-[\w-]{20,}|sk-[\w-]{40,})",
        r"\b()(?:AKIA[A-Z0-9]{16}\b|wandb_v1_\w{16,})",
        r"(://[^/\s:@]*:)[^/\s@]+(?=@)",  # the password in an address
        r"((?i:[?&](?:x-amz-\w+|signature|sig|\w*token|api_?key)=))[^&\s]+",  # signed addresses of downloads
        r"((?i:\bbearer ))[\w.-]{8,}",  # a header
    )
]
_SHORTEST = 8  # characters; shorter values of the environment would hit ordinary words


class Secrets:
    """What must not be shown: the values of environment variables named like a secret, keys of known shapes, passwords
    and signatures in addresses, and entries whose name says what they hold (`hf_token`, `api_key`; not `eos_token`,
    `max_new_tokens`)."""

    def __init__(self, environment: Mapping[str, str]):
        named = {value: name for name, value in environment.items() if is_secret_name(name) and len(value) >= _SHORTEST}
        self._variables = dict(
            sorted(named.items(), key=lambda item: len(item[0]), reverse=True)
        )  # longest value first

    def hide(self, text: str) -> str:
        """`text` with three stars for every secret in it."""
        for value in self._variables:
            text = text.replace(value, _HIDDEN)
        for pattern, hidden in _PATTERNS:
            text = pattern.sub(hidden, text)
        return text

    def found_in(self, name: str, value: object) -> str | None:
        """What makes the setting `name` a secret, None when nothing does."""
        text = str(value)
        if is_secret_name(name.rpartition(".")[2]) and value not in (None, ""):
            return "its name says that it is a secret"
        if variable := next((self._variables[known] for known in self._variables if known in text), None):
            return f"it holds the value of the environment variable {variable}"
        return "it holds a key or a password" if self.hide(text) != text else None


def redact(value: Any, environment: Mapping[str, str]) -> Any:
    """`value`, a nest of dicts and lists, without secrets (see `Secrets`)."""
    return _redacted(value, Secrets(environment))


def _redacted(value: Any, secrets: Secrets) -> Any:
    if isinstance(value, dict):
        return {
            key: _HIDDEN if is_secret_name(str(key)) and item not in (None, "") else _redacted(item, secrets)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_redacted(item, secrets) for item in value]
    return secrets.hide(value) if isinstance(value, str) else value


def is_secret_name(name: str) -> bool:
    name = name.replace("-", "_")
    return bool(_SECRET_NAME.search(name)) and not _SPECIAL_TOKEN.search(name)


class _HidingStream:
    """A text stream that hides secrets in what is written; in all else it is the stream beneath."""

    def __init__(self, stream: TextIO, secrets: Secrets):
        self._stream, self._secrets = stream, secrets

    def write(self, text: str) -> int:
        self._stream.write(self._secrets.hide(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        self.write("".join(lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def hide_on_screen() -> None:
    """From here on nothing that this process writes to stdout or stderr holds a secret of its environment: log lines,
    tracebacks, warnings and what libraries print. Logging handlers made earlier keep the stream they have.

    At the stream, since a filter would have to be on every handler of every library, and on none is what Python prints
    of an exception that nobody catches. Calling it again changes nothing.
    """
    secrets = Secrets(os.environ)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, _HidingStream):
            setattr(sys, name, cast(TextIO, _HidingStream(stream, secrets)))
