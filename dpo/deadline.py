"""When a run has to begin to stop: after a duration, at a time, or shortly before the Slurm job around it ends."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta

FORMS = (
    "a duration since the start (3h50m, 90s, or as Slurm writes it: 3:50:00, 1-12:00:00), a time "
    "(2026-11-21T18:00), auto or null"
)
SLURM_END = "SLURM_JOB_END_TIME"  # seconds since 1970; newer Slurm sets it for every job, 22.05.8 does not yet
# Slurm sends SIGTERM at the end of the time and SIGKILL 30 s later (KillWait): too short to write a large state.
SLURM_SPARE_SECONDS = 120.0
SLURM_SPARE_SHARE = 0.1  # of what is left at the start: a job of five minutes is not to lose two of them

_UNITS = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_SLURM = re.compile(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)")
_SLURM_DAYS = re.compile(r"(\d+)-(\d+)(?::(\d\d))?()")


def seconds_left(deadline: str | None, now: datetime, environment: Mapping[str, str]) -> float | None:
    """Seconds from `now`, the start of the process, to `checkpoint.deadline`; None: there is none.

    A time without a zone is this machine's. It becomes a duration here, once: from then on the monotonic clock counts,
    and setting the machine's clock moves nothing.

    Raises:
        ValueError: none of `FORMS`, or a time that has passed.
    """
    if deadline is None:
        return None
    if deadline == "auto":
        return _until_slurm_ends(now, environment)
    if duration := _duration(deadline):
        return duration.total_seconds()
    try:
        left = (datetime.fromisoformat(deadline).astimezone() - now).total_seconds()
    except ValueError:
        raise ValueError(f"expected {FORMS}") from None
    if left <= 0:
        raise ValueError(f"has passed: it is {now.isoformat(timespec='seconds')} on this machine")
    return left


def slurm_seconds(text: str) -> float | None:
    """Of a time limit as `sbatch --time` takes it: minutes, minutes:seconds, 4:00:00, 1-12, 1-12:00, 1-12:00:00.
    None: no such form."""
    if match := re.fullmatch(r"(\d+)(?::(\d\d))?", text):
        return 60.0 * int(match[1]) + int(match[2] or 0)
    found = _duration(text) if ":" in text or "-" in text else None
    return found.total_seconds() if found else None


def _until_slurm_ends(now: datetime, environment: Mapping[str, str]) -> float | None:
    end = environment.get(SLURM_END, "")
    if not end.isdecimal():  # no Slurm job, or one without an end
        return None
    left = float(end) - now.timestamp()
    return left - min(SLURM_SPARE_SECONDS, SLURM_SPARE_SHARE * left)


def _duration(text: str) -> timedelta | None:
    """None when `text` is of another form, or no time at all."""
    match = next((m for form in (_UNITS, _SLURM, _SLURM_DAYS) if (m := form.fullmatch(text))), None)
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
