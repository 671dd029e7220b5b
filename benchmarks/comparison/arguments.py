"""The command line: `preset=cpu profiles=hh,four repeats=3 out=results.json`."""

import os
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from comparison.presets import PRESETS, Case, Preset

ROOT = Path(__file__).resolve().parents[2]


class ArgumentError(ValueError):
    """A command line that cannot be followed; the message names all that is wrong with it."""


@dataclass(kw_only=True, slots=True)
class Arguments:
    preset: str = "cpu"
    shapes: list[str] | None = None  # only these of the preset
    profiles: list[str] | None = None  # only these of the preset
    pairs: int | None = None  # of every case, instead of the preset's
    repeats: int | None = None  # fresh processes of each side, instead of the preset's
    causes: bool = True  # measure where the ratio comes from
    threads: int = os.cpu_count() or 1  # for CPU operations, of all workers together
    data: Path = ROOT.parent / "shared" / "data"  # folder with pref/ and tokenizers/, for the profile `real`
    out: Path | None = None  # results as JSON
    picture: Path | None = None  # PNG; where it is not named, beside `out`


def parse(words: list[str]) -> Arguments:
    """Raises ArgumentError."""
    arguments, problems = Arguments(), []
    known = [f.name for f in fields(Arguments)]
    for word in words:
        key, _, value = word.partition("=")
        if key not in known or not value:
            problems.append(f"{word}: expected one of {', '.join(f'{name}=...' for name in known)}")
            continue
        try:
            setattr(arguments, key, READ[key](value))
        except ValueError as error:
            problems.append(f"{word}: {error}")
    if problems:
        raise ArgumentError("\n".join(problems))
    if arguments.out and not arguments.picture:
        arguments.picture = arguments.out.with_suffix(".png")
    return arguments


def chosen(arguments: Arguments) -> Preset:
    """The preset, narrowed and overridden as asked. Raises ArgumentError."""
    preset = PRESETS[arguments.preset]
    cases = [
        replace(case, n_pairs=arguments.pairs or case.n_pairs)
        for case in preset.cases
        if case.shape in (arguments.shapes or [case.shape]) and case.profile in (arguments.profiles or [case.profile])
    ]
    problems = _unknown(arguments, preset.cases)
    if not cases and not problems:
        problems.append(f"preset={arguments.preset} has no case of these shapes and profiles: {_names(preset.cases)}")
    problems += [
        f"pairs={case.n_pairs}: {case.name} needs a multiple of {case.multiple} (steps of whole prompts)"
        for case in cases
        if case.n_pairs % case.multiple
    ]
    if problems:
        raise ArgumentError("\n".join(problems))
    return replace(
        preset,
        cases=cases,
        repeats=arguments.repeats or preset.repeats,
        checked=[shape for shape in preset.checked if arguments.shapes is None or shape in arguments.shapes],
    )


def _unknown(arguments: Arguments, cases: list[Case]) -> list[str]:
    asked = {"shapes": arguments.shapes or [], "profiles": arguments.profiles or []}
    offered = {"shapes": {case.shape for case in cases}, "profiles": {case.profile for case in cases}}
    return [
        f"{key}={name}: preset={arguments.preset} has {', '.join(sorted(offered[key]))}"
        for key, names in asked.items()
        for name in names
        if name not in offered[key]
    ]


def _names(cases: list[Case]) -> str:
    return ", ".join(case.name for case in cases)


def _choice(*names: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in names:
            raise ValueError(f"expected one of {', '.join(names)}")
        return text

    return read


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ValueError("expected a whole number of at least 1")
    return int(text)


READ: dict[str, Callable[[str], Any]] = {
    "preset": _choice(*PRESETS),
    "shapes": lambda text: text.split(","),
    "profiles": lambda text: text.split(","),
    "pairs": _count,
    "repeats": _count,
    "causes": lambda text: _choice("true", "false")(text) == "true",
    "threads": _count,
    "data": Path,
    "out": Path,
    "picture": Path,
}
