"""Keys and passwords are never settings: a setting stands in the shell's history, in the list of processes, in
config.yaml and at the tracker. The environment holds them."""

import os
from collections.abc import Mapping
from typing import Any

from dpo.redact import Secrets

VARIABLES = {"wandb": "WANDB_API_KEY", "hf": "HF_TOKEN", "hub": "HF_TOKEN", "huggingface": "HF_TOKEN"}


def keys_in_overrides(overrides: list[str]) -> list[str]:
    """A problem for each of the command line's settings that carries a secret; none of them repeats it."""
    pairs = (text.partition("=") for text in overrides)
    return _problems({name.lstrip("+~"): value for name, _, value in pairs})


def keys_in_settings(settings: Mapping[str, Any]) -> list[str]:
    """The same for a composed configuration, {"section": {"setting": value}}."""
    return _problems(dict(_flat(settings)))


def _problems(settings: Mapping[str, Any]) -> list[str]:
    secrets = Secrets(os.environ)
    return [
        f"{secrets.hide(name)}: {why}, and keys and passwords are never settings: {_cure(name, str(value))}"
        for name, value in settings.items()
        if (why := secrets.found_in(name, value))
    ]


def _cure(name: str, value: str) -> str:
    if "://" in value:
        return "fetch the file first and give its local path"
    words = name.lower().replace(".", "_").split("_")
    known = (
        "HF_TOKEN" if value.startswith("hf_") else next((VARIABLES[word] for word in words if word in VARIABLES), None)
    )
    if known:
        return f"leave it out and export {known}=... before the launch"
    return "leave it out; libraries take theirs from the environment (HF_TOKEN, WANDB_API_KEY, AWS_SECRET_ACCESS_KEY)"


def _flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in tree.items():
        found += _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(f"{prefix}{name}", value)]
    return found
