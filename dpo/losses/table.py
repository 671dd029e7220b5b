"""The table of all losses, made from their registry: the README shows it, and a test holds the two equal."""

from dataclasses import Field, fields
from typing import Any

from dpo.losses import kind as symbols
from dpo.losses.kind import LossKind
from dpo.losses.registry import LOSSES

HEAD = ("`loss=`", "one unit", "knobs: default (usual)", "first value", "paper")


def loss_table() -> str:
    """Markdown: what the symbols stand for, then a row per loss. A first value is that with the default knobs."""
    rows = [HEAD, ("---",) * len(HEAD), *(_row(kind) for kind in LOSSES.values())]
    return "\n".join([_legend(), "", *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def _legend() -> str:
    assert symbols.__doc__ is not None
    return symbols.__doc__.split("\n\n", 1)[1].strip()


def _row(kind: LossKind) -> tuple[str, ...]:
    first = kind.first(kind.knobs())
    scope = " (over the step)" if kind.scope == "step" or kind.baseline != "none" else ""
    scope += " (unpaired rows too)" if kind.unpaired else ""
    knobs = "; ".join(_knob(f) for f in fields(kind.knobs) if f.name not in ("name", "beta_final"))
    return (
        f"`{kind.name}`",
        f"`{kind.equation}`{scope}",
        knobs,
        "" if first is None else f"{first:.5g}",
        kind.paper,
    )


def _knob(knob: "Field[Any]") -> str:
    default = "null" if knob.default is None else knob.default
    usual = knob.metadata.get("usual") or ", ".join(knob.metadata.get("choices", ()))
    return f"`{knob.name}` {default}" + (f" ({usual})" if usual else "")
