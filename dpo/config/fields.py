"""What a setting's dataclass field says about the values it may take: its choices or its range."""

from dataclasses import field
from typing import Any


def one_of(default: str, *choices: str) -> Any:
    """A text setting that takes one of `choices`."""
    return field(default=default, metadata={"choices": choices})


def number(
    default: Any, *, low: float | None = None, high: float | None = None, above: float | None = None, usual: str = ""
) -> Any:
    """A number with `low <= value <= high`, or `value > above`; null passes where the type allows it. `usual`: the
    range that is commonly tried, for tables."""
    return field(default=default, metadata={"low": low, "high": high, "above": above, "usual": usual})


def range_problem(value: Any, rule: Any) -> str | None:
    """What is wrong with a value under a field's metadata."""
    if "choices" in rule and value not in rule["choices"]:
        return f"must be one of {', '.join(rule['choices'])}"
    low, high, above = rule.get("low"), rule.get("high"), rule.get("above")
    if low is not None and value < low:
        return f"must be at least {low}"
    if high is not None and value > high:
        return f"must be at most {high}"
    if above is not None and value <= above:
        return f"must be greater than {above}"
    return None
