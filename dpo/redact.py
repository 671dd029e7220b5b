"""Secrets out of everything that is written down or sent away."""

import re
from collections.abc import Mapping
from typing import Any

_SECRET_NAME = re.compile(r"(^|_)(token|api_?key|access_key|private_key|secret|password|passwd|credentials?)$", re.I)
_SPECIAL_TOKEN = re.compile(r"(^|_)(eos|bos|pad|unk|sep|cls|mask|image)_token$", re.I)  # settings of a tokenizer
_SECRET_SHAPE = re.compile(r"\b(hf_|sk-|ghp_|github_pat_|glpat-|AKIA)[A-Za-z0-9_-]{16,}")
_URL_PASSWORD = re.compile(r"(://[^/\s:@]*:)[^/\s@]+@")
_HIDDEN = "***"


def redact(value: Any, environment: Mapping[str, str]) -> Any:
    """`value`, a nest of dicts and lists, without secrets.

    Hidden are entries named like one (`hf_token`, `api_key`; not `eos_token`, `max_new_tokens`), and in any text the
    values of environment variables named like one, keys of known shapes, and passwords in addresses.
    """
    known = _secret_values(environment)
    if isinstance(value, dict):
        return {
            key: _HIDDEN if _is_secret_name(str(key)) and item not in (None, "") else redact(item, environment)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [redact(item, environment) for item in value]
    if isinstance(value, str):
        for secret in known:
            value = value.replace(secret, _HIDDEN)
        return _URL_PASSWORD.sub(rf"\1{_HIDDEN}@", _SECRET_SHAPE.sub(_HIDDEN, value))
    return value


def _is_secret_name(name: str) -> bool:
    name = name.replace("-", "_")
    return bool(_SECRET_NAME.search(name)) and not _SPECIAL_TOKEN.search(name)


def _secret_values(environment: Mapping[str, str]) -> list[str]:
    """Values of variables named like a secret, longest first; under 8 characters they would hit ordinary words."""
    values = {value for name, value in environment.items() if _is_secret_name(name) and len(value) >= 8}
    return sorted(values, key=len, reverse=True)
