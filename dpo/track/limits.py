"""Calls that may hang, under a time limit."""

import threading
from collections.abc import Callable
from typing import TypeVar

_Result = TypeVar("_Result")


def within(seconds: float, call: Callable[[], _Result]) -> _Result:
    """The result of `call`, or its exception; TimeoutError after `seconds`, leaving it behind in a daemon thread."""
    outcome: list[_Result] = []
    fault: list[BaseException] = []

    def target() -> None:
        try:
            outcome.append(call())
        except BaseException as error:  # SystemExit too: wandb's teardown raises it
            fault.append(error)

    thread = threading.Thread(target=target, name="dpo-track", daemon=True)
    thread.start()
    thread.join(seconds)
    if fault:
        raise fault[0] if isinstance(fault[0], Exception) else RuntimeError(repr(fault[0]))
    if not outcome:
        raise TimeoutError(f"no answer within {seconds:.0f} s")
    return outcome[0]


def first_line(error: Exception) -> str:
    """Of what it says, or its kind."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
