"""What nvidia-smi says: it sees the hardware and the driver even where CUDA cannot start."""

import shutil
import subprocess
from dataclasses import dataclass

from dpo.errors import EnvironmentProblem

SECONDS = 15.0  # without the persistence daemon the driver wakes 8 GPUs one after the other

_FIELDS = ("index", "name", "memory.total", "memory.used", "temperature.gpu", "driver_version")
# Older drivers lack some of these; one unknown name refuses the whole question, so each is asked for by itself.
_ERRORS = {
    "ecc.errors.uncorrected.volatile.total": "uncorrectable memory errors since the last reset",
    "remapped_rows.pending": "memory rows that wait for a reset to be replaced",
    "remapped_rows.failure": "memory rows that could not be replaced",
}
_SLOWED = "clocks_throttle_reasons.hw_slowdown"


@dataclass(kw_only=True, slots=True)
class Gpu:
    index: int
    name: str
    total_mib: float
    used_mib: float
    celsius: float | None
    driver: str


def present() -> bool:
    return shutil.which("nvidia-smi") is not None


def gpus() -> list[Gpu]:
    """Raises EnvironmentProblem with nvidia-smi's own words when it cannot ask the driver."""
    found = []
    for row in _ask("gpu", *_FIELDS):
        index, name, total, used, celsius, driver = row
        values = {"total_mib": _number(total) or 0.0, "used_mib": _number(used) or 0.0, "celsius": _number(celsius)}
        found.append(Gpu(index=int(index), name=name, driver=driver, **values))  # type: ignore[arg-type]
    return found


def processes() -> list[tuple[str, str]]:
    """(pid, name) of what computes on any of them."""
    return [(pid, name) for pid, name in _ask("compute-apps", "pid", "process_name")]


def errors() -> list[str]:
    """Memory that failed, one line per GPU and kind."""
    found = []
    for name, meaning in _ERRORS.items():
        for index, value in _ask_if_known("index", name):
            if (_number(value) or 0) > 0 or value == "Yes":
                found.append(f"GPU {index}: {meaning} ({value})")
    return found


def slowed() -> list[str]:
    """The GPUs that hardware slows down now: heat, or power that does not arrive."""
    return [index for index, value in _ask_if_known("index", _SLOWED) if value == "Active"]


def linked() -> bool | None:
    """Whether NVLink connects them; None: unknown."""
    try:
        return "GB/s" in _run("nvlink", "--status")
    except EnvironmentProblem:
        return None


def _ask_if_known(*names: str) -> list[list[str]]:
    try:
        return _ask("gpu", *names)
    except EnvironmentProblem:
        return []


def _ask(what: str, *names: str) -> list[list[str]]:
    lines = _run(f"--query-{what}={','.join(names)}", "--format=csv,noheader,nounits").splitlines()
    rows = [[cell.strip() for cell in line.split(",")] for line in lines]
    return [row for row in rows if len(row) == len(names)]


def _run(*arguments: str) -> str:
    try:
        done = subprocess.run(["nvidia-smi", *arguments], capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise EnvironmentProblem(f"nvidia-smi gave no answer within {SECONDS:g} s") from None
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()
        raise EnvironmentProblem(said[-1] if said else f"nvidia-smi ended with {done.returncode}")
    return done.stdout


def _number(text: str) -> float | None:
    """None for [N/A] and the like."""
    try:
        return float(text)
    except ValueError:
        return None
