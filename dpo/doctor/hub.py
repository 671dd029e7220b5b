"""Which of a run's models and data sets still have to come from the hub."""

import os
import re
from pathlib import Path

from dpo.doctor.finding import Job

_NAME = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")  # owner/name


def absent(job: Job) -> list[str]:
    """Hub names that are neither a path on this machine nor in its cache."""
    kinds = (("models", job.models), ("datasets", job.data))
    named = [(kind, name) for kind, names in kinds for name in names if _is_hub_name(name)]
    return [name for kind, name in dict.fromkeys(named) if not _kept(kind, name)]


def _is_hub_name(name: str) -> bool:
    return bool(_NAME.fullmatch(name)) and not Path(name).exists()


def _kept(kind: str, name: str) -> bool:
    """By the cache's layout (<kind>--<owner>--<name>/snapshots), which huggingface_hub documents and promises."""
    home = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    return any((cache / f"{kind}--{name.replace('/', '--')}" / "snapshots").glob("*/*"))
