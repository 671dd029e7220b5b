"""`python -m dpo verify`: does a finished run end where its experiment says it should?"""

import math
from typing import Any

from dpo.columns import columns
from dpo.config.compose import as_dict, choices, compose_run, read_yaml
from dpo.config.derive import derive
from dpo.config.expect import Band, ExpectConfig
from dpo.config.identity import identity
from dpo.errors import RunError
from dpo.records import RunFolder, read_metrics, read_status

HEAD = ("metric", "expected", "found", "")


def verify(folder: RunFolder, given: ExpectConfig) -> tuple[str, bool]:
    """A table of the run's last held-out numbers beside their bands, and whether all lie inside. `given`: the bands to
    hold it to; where it has none, those of the experiment that it was started with.

    Raises:
        RunError: no run there, not finished, nothing held out, or an experiment without a band.
    """
    record = last_held_out(folder)
    settings = read_yaml(folder.config)
    expect = given if given.held_out else _expected(settings)
    if not expect.held_out:
        raise RunError(
            f"{folder.path}: its experiment says no expected numbers. Experiments that do: "
            f"{', '.join(_with_band())}. Compare with one of them: python -m dpo verify {folder.path} experiment=<name>"
        )
    rows = [(name, *_compared(record.get(name), band)) for name, band in expect.held_out.items()]
    good = all(row[-1] == "ok" for row in rows)
    head = f"{folder.path}: step {record['step']}, against experiment={expect.experiment}"
    lines = [head, *columns([HEAD, *rows]), *_differences(settings, expect)]
    return "\n".join(lines) + "\n", good


def last_held_out(folder: RunFolder) -> dict[str, Any]:
    """The held-out numbers that a finished run ends with.

    Raises:
        RunError: no run there, not finished, nothing held out.
    """
    status = read_status(folder)
    if status is None or not folder.config.is_file():
        beside = sorted(path.parent.name for path in folder.path.parent.glob("*/status.json"))
        raise RunError(f"{folder.path}: no run here; beside it there are: {', '.join(beside) or 'none'}")
    if status.state != "done":
        why = f" ({status.why})" if status.why else ""
        raise RunError(
            f"{folder.path} is not finished: {status.state}{why}, step {status.step} of {status.total_steps or '?'}. "
            "The command that started it continues it"
        )
    rows = [row for row in read_metrics(folder.metrics) if row["split"] == "eval"]
    if not rows or rows[-1]["step"] != status.step or "loss" not in rows[-1]:
        raise RunError(
            f"{folder.path}: nothing was held out, so there is no number to compare: set eval.fraction, "
            "data.eval_path or data.eval_split"
        )
    return rows[-1]


def deciding(settings: dict[str, Any]) -> dict[str, Any]:
    """Those that decide a run's held-out numbers: how often they are measured does not."""
    return {k: v for k, v in identity(settings).items() if not k.startswith("eval.") or k == "eval.fraction"}


def _expected(settings: dict[str, Any]) -> ExpectConfig:
    kept = settings.get("expect", {"experiment": None, "held_out": {}})  # runs of before there were bands lack it
    bands = {name: Band(**band) for name, band in kept["held_out"].items()}
    return ExpectConfig(experiment=kept["experiment"], held_out=bands)


def _with_band() -> list[str]:
    return [name for name in choices()["experiment"] if compose_run([f"experiment={name}"], 1).config.expect.held_out]


def _compared(value: float | None, band: Band) -> tuple[str, str, str]:
    expected = f"{band.low:g} to {band.high:g}"
    if value is None:
        return expected, "-", "not measured"
    if band.low <= value <= band.high:
        return expected, f"{value:.4f}", "ok"
    if math.isnan(value):
        return expected, "NaN", "out"
    off = f"{band.low - value:.4f} below" if value < band.low else f"{value - band.high:.4f} above"
    return expected, f"{value:.4f}", f"out: {off}"


def _differences(settings: dict[str, Any], expect: ExpectConfig) -> list[str]:
    """What explains numbers outside: settings that decide the result and are not the experiment's."""
    config = compose_run([f"experiment={expect.experiment}"], 1).config
    derive(config)
    there, here = deciding(as_dict(config)), deciding(settings)
    keys = sorted(key for key in there.keys() | here.keys() if there.get(key) != here.get(key))
    lines = [f"  {key}: {here.get(key)}, there {there.get(key)}" for key in keys]
    return ["settings that differ from the experiment's:", *lines] if lines else []
