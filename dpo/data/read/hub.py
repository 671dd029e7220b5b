"""Preference data from the Hugging Face hub: the only network access of the data folder."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from dpo.data.read.origin import Origin
from dpo.errors import DataError

CHECK_SECONDS = 5.0  # for the one cheap request that tells whether the hub answers at all


def load(origin: Origin) -> Iterator[dict[str, Any]]:
    """The rows of one split of a hub data set, fetched whole first or, with `streaming`, read over the network.

    Raises:
        DataError: within seconds when the data set cannot be fetched and no earlier run left it in the local cache;
            between two rows when the connection breaks.
    """
    import datasets  # seconds to import, and only for hub data

    problem = _unreachable(origin.path, origin.revision)
    if problem and origin.streaming:
        raise DataError(_message(origin.path, problem, origin.setting))
    chosen: dict[str, Any] = {"name": origin.subset, "data_dir": origin.data_dir, "streaming": origin.streaming or None}
    chosen = {key: value for key, value in chosen.items() if value is not None}
    try:
        with _offline(problem is not None):
            rows = datasets.load_dataset(origin.path, split=origin.split, revision=origin.revision, **chosen)
    except Exception as error:  # the library raises every kind: network, parser, unknown split, access
        raise DataError(_refusal(origin, problem, error)) from error
    return _each(rows, origin)


def _each(rows: Iterable[dict[str, Any]], origin: Origin) -> Iterator[dict[str, Any]]:
    try:
        yield from rows
    except Exception as error:  # as above: what is streamed is fetched and parsed here
        raise DataError(
            f"the data set {origin.path!r} broke off while it was read: {_one_line(error)}; start again, or fetch it "
            "first with data.streaming=false"
        ) from error


def _refusal(origin: Origin, problem: str | None, error: Exception) -> str:
    """What is said when the library does not give the data set."""
    if isinstance(error, ValueError) and "split" in str(error).lower():
        said = f"the data set {origin.path} has no split {origin.split!r}: {_one_line(error)}"
        return f"{said}; set {origin.split_setting}"
    if isinstance(error, ValueError) and "config" in str(error).lower():
        return f"the data set {origin.path}: {_one_line(error)}; set {origin.setting.rpartition('.')[0]}.subset"
    return _message(origin.path, problem or _one_line(error), origin.setting)


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
