"""`python -m dpo status`: how far a run is and how its last launch ended, for people and for the scripts around it."""

from dpo.records import RunFolder, Status, read_status
from dpo.run_lock import is_held

DONE, FAILED, STOPPED, RUNNING = 0, 1, 3, 4
TIME_UP = 75  # EX_TEMPFAIL of sysexits.h: to be tried again
# What a scheduler or a clock said, not a person: the words of dpo/preempt.py.
TIME_WORDS = ("received SIGUSR1", "reached checkpoint.deadline")


def describe(folder: RunFolder) -> tuple[str, int]:
    """One line, and the exit code that says the same to a script."""
    status = read_status(folder)
    if status is None:
        return f"{folder.path}: no run has begun here", FAILED
    steps = f"step {status.step}" + (f" of {status.total_steps}" if status.total_steps else "")
    text, code = _state(folder, status)
    why = f": {status.why.splitlines()[0]}" if status.why else ""
    return f"{folder.path}: {text.format(steps=steps)}{why}", code


def _state(folder: RunFolder, status: Status) -> tuple[str, int]:
    if status.state == "done":
        return "done, {steps}", DONE
    if status.state == "failed":
        return "failed after {steps}", FAILED
    if status.state == "stopped":
        return "stopped after {steps}", TIME_UP if any(word in status.why for word in TIME_WORDS) else STOPPED
    if is_held(folder.lock):
        return "running, {steps}", RUNNING
    return "killed after {steps}, it could not say why", FAILED
