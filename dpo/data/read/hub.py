"""Preference data from the Hugging Face hub: the only network access of the data folder."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from dpo.errors import DataError

CHECK_SECONDS = 5.0  # for the one cheap request that tells whether the hub answers at all


def load(path: str, split: str, revision: str | None, settings: tuple[str, str]) -> Iterable[dict[str, Any]]:
    """The rows of one split of a hub data set.

    `settings`: the names of the settings that hold `path` and `split`, for the messages. Raises DataError within
    seconds when the data set cannot be fetched and no earlier run left it in the local cache.
    """
    import datasets  # seconds to import, and only for hub data

    problem = _unreachable(path, revision)
    try:
        with _offline(problem is not None):
            rows: Iterable[dict[str, Any]] = datasets.load_dataset(path, split=split, revision=revision)
            return rows
    except Exception as error:  # the library raises every kind: network, parser, unknown split, access
        if isinstance(error, ValueError) and "split" in str(error).lower():
            raise DataError(
                f"the data set {path} has no split {split!r}: {_one_line(error)}; set {settings[1]}"
            ) from error
        raise DataError(_message(path, problem or _one_line(error), settings[0])) from error


def commit(path: str, revision: str | None) -> str | None:
    """Which commit of a data set `load` reads; None where nobody can say, without a network or access."""
    from huggingface_hub import HfApi

    try:
        return str(HfApi().dataset_info(path, revision=revision, timeout=CHECK_SECONDS).sha)
    except Exception:  # every transport library has its own family of errors; `load` tells what is wrong
        return None


def _message(path: str, problem: str, setting: str) -> str:
    return (
        f"the data set {path!r} is no local file and could not be fetched from the hub ({problem}): "
        f"set {setting} to a local file instead, e.g. {setting}=pairs.jsonl, or to a data set that exists"
    )


def _one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def _unreachable(path: str, revision: str | None) -> str | None:
    """Why the hub does not give this data set; None when it does.

    `load_dataset` repeats a failing request for 23 s (datasets 5.2), whatever its retry setting: hence this request
    before it, and offline mode (which reads the local cache only) when it fails.
    """
    from huggingface_hub import HfApi

    try:
        HfApi().dataset_info(path, revision=revision, timeout=CHECK_SECONDS)
    except Exception as error:  # every transport library has its own family of errors
        return _one_line(error)
    return None


@contextmanager
def _offline(active: bool) -> Iterator[None]:
    """With `active`, Hugging Face libraries use their cache only, without a request."""
    import datasets
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    if active:
        constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before
