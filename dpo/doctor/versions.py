"""Python and packages against what the code is written for and what was tested together."""

import importlib.metadata as metadata
import platform
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from dpo.doctor.finding import Finding, Job, fail, ok, warn

CHECKOUT = Path(__file__).parents[2]
DISTRIBUTION = "dpo-trainer"
SHOWN = 6  # packages named in one line


@dataclass(kw_only=True, slots=True)
class Wanted:
    """Ranges are promises of the code; pins are the versions that its tests ran with."""

    python: str
    ranges: list[Requirement]
    pins: dict[str, str] = field(default_factory=dict)  # of everything, also of what comes along


def check_versions(job: Job) -> list[Finding]:
    return compare(wanted(CHECKOUT))


def wanted(checkout: Path) -> Wanted:
    """From the checkout, which is what runs; elsewhere from what the installation says of itself, without pins."""
    project, constraints = checkout / "pyproject.toml", checkout / "constraints.txt"
    if project.is_file() and constraints.is_file():
        said = tomllib.loads(project.read_text())["project"]
        lines = (line.partition("#")[0].strip() for line in constraints.read_text().splitlines())
        pins = dict(line.split("==") for line in lines if "==" in line)
        ranges = [Requirement(text) for text in said["dependencies"]]
        return Wanted(python=said["requires-python"], ranges=ranges, pins=pins)
    texts = [Requirement(text) for text in metadata.requires(DISTRIBUTION) or []]
    python = metadata.metadata(DISTRIBUTION)["Requires-Python"]
    return Wanted(python=python, ranges=[r for r in texts if not r.marker or r.marker.evaluate({"extra": ""})])


def compare(want: Wanted) -> list[Finding]:
    """Outside its range a package fails, beside its pin it warns."""
    python = platform.python_version()
    if python not in SpecifierSet(want.python):
        cure = "make setup PYTHON=python3.12, or any other that fits"
        return [fail(f"Python {python}, and the code is written for {want.python}", cure)]
    outside = [problem for requirement in want.ranges if (problem := _outside(requirement))]
    beside = [
        f"{name} {found} (tested: {pin})"
        for name, pin in want.pins.items()
        if (found := _installed(name)) and Version(found).public != pin
    ]
    findings = []
    if outside:
        findings.append(fail("; ".join(outside), "pip install -c constraints.txt -e ."))
    if beside:
        others = f" and {len(beside) - SHOWN} others" if len(beside) > SHOWN else ""
        text = f"not the versions that were tested together: {', '.join(beside[:SHOWN])}{others}"
        findings.append(warn(text, "pip install -c constraints.txt -e ."))
    if not want.pins:
        findings.append(warn("no constraints.txt here: only ranges were compared", "run from the checkout"))
    main = ", ".join(f"{name} {_installed(name)}" for name in ("torch", "transformers", "accelerate", "deepspeed"))
    return findings or [ok(f"Python {python}, {main}: as tested")]


def _outside(requirement: Requirement) -> str:
    found = _installed(requirement.name)
    if found is None:
        return f"{requirement.name} is not installed (needs {requirement.specifier})"
    if Version(found).public not in requirement.specifier:
        return f"{requirement.name} {found} (needs {requirement.specifier})"
    return ""


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
