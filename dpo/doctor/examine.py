"""Runs the checks, each within its time and all within a minute, whatever hangs."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait

from dpo.doctor.finding import Finding, Job, fail
from dpo.doctor.table import TABLE, Check
from dpo.track.limits import within

ALL_SECONDS = 55.0


def examine(names: list[str], job: Job) -> Iterator[tuple[str, list[Finding]]]:
    """(name, findings) of each check in the given order, as soon as they are there.

    What waits for others (network, driver, compiler) runs in threads from the start; what measures comes when they
    have ended, one after the other.
    """
    end = time.monotonic() + ALL_SECONDS
    with ThreadPoolExecutor(max_workers=len(TABLE)) as pool:
        waiting: dict[str, Future[list[Finding]]] = {
            name: pool.submit(_findings, TABLE[name], job, end) for name in names if not TABLE[name].measures
        }
        for name in names:
            if name in waiting:
                yield name, waiting[name].result()
            else:
                wait(waiting.values())
                yield name, _findings(TABLE[name], job, end)


def _findings(check: Check, job: Job, end: float) -> list[Finding]:
    """A check that fails by itself is a finding too: one line of the report, and not the end of it."""
    seconds = max(0.1, min(check.seconds, end - time.monotonic()))
    try:
        return within(seconds, lambda: check.run(job))
    except TimeoutError:
        return [fail(f"no answer within {seconds:.0f} s", "look at it by hand; a mount or a driver may hang")]
    except Exception as error:
        return [fail(f"cannot be checked: {type(error).__name__}: {error}", "report this line")]
