"""Cross-checks of the loss: knobs without effect beside others, the terms of a mix, which Hydra cannot type, and what
depends on which loss it is."""

import difflib
from collections.abc import Iterator
from dataclasses import Field, fields
from types import UnionType
from typing import Any, get_args

from dpo.config.checks_reference import reference_problems
from dpo.config.fields import range_problem
from dpo.config.losses import LossConfig, MixLossConfig, SigmoidLossConfig
from dpo.config.schema import RunConfig
from dpo.losses.loss import Loss
from dpo.losses.registry import LOSSES
from dpo.losses.term import terms_of


def loss_problems(config: RunConfig) -> list[str]:
    """What is wrong with the loss, and with other settings beside it."""
    if problems := term_problems(config.loss):
        return problems
    loss = Loss(config.loss)
    return [*knob_problems(config.loss), *reference_problems(config, loss.needs_reference), *_best(config, loss)]


def _best(config: RunConfig, loss: Loss) -> list[str]:
    best = config.checkpoint.best
    if best in (None, "loss"):  # the default, without effect where nothing is held out
        return []
    problems = []
    if not loss.has_rewards:
        problems.append(f"checkpoint.best={best}: loss={config.loss.name} has no rewards: checkpoint.best=loss")
    if not (config.eval.fraction or config.data.eval_path or config.data.eval_split):
        problems.append(
            f"checkpoint.best={best} is measured on held-out pairs, and there are none: set eval.fraction or "
            "data.eval_path, or checkpoint.best=null"
        )
    return problems


def term_problems(loss: LossConfig) -> list[str]:
    """What is wrong with the terms of loss=mix. Empty: `Loss(loss)` can be built."""
    if not isinstance(loss, MixLossConfig):
        return []
    if not loss.terms:
        return ["loss.terms is empty: give at least one, as in conf/loss/mix.yaml"]
    return [problem for i, term in enumerate(loss.terms) for problem in _term_problems(f"loss.terms[{i}]", term)]


def knob_problems(loss: LossConfig) -> list[str]:
    """Knobs that are accepted by the schema and would have no effect."""
    return [
        f"alpha={term.knobs.alpha:g} of loss {term.name} has no effect with f_divergence={term.knobs.f_divergence}: "
        "remove it, or set f_divergence=alpha_divergence"
        for term in terms_of(loss)
        if isinstance(term.knobs, SigmoidLossConfig)
        and term.knobs.alpha is not None
        and term.knobs.f_divergence != "alpha_divergence"
    ]


def _term_problems(where: str, term: dict[str, Any]) -> Iterator[str]:
    name = term.get("name")
    if name not in LOSSES:
        close = difflib.get_close_matches(str(name), LOSSES, n=1, cutoff=0.5)
        meant = f" Did you mean {close[0]}?" if close else ""
        yield f"{where}.name={name}: no such loss.{meant} Losses: {', '.join(sorted(LOSSES))}"
        return
    known = {f.name: f for f in fields(LOSSES[name].knobs)}
    for key, value in term.items():
        if key == "weight":
            if not _is_number(value) or value <= 0:
                yield f"{where}.weight={value}: must be a number greater than 0"
        elif key not in known:
            own = ", ".join(sorted({*known, "weight"}))
            yield f"{where}.{key}: no such setting. {name} has: {own}"
        elif problem := _value_problem(known[key], value):
            yield f"{where}.{key}={value}: {problem}"


def _value_problem(knob: "Field[Any]", value: Any) -> str | None:
    types = get_args(knob.type) if isinstance(knob.type, UnionType) else (knob.type,)
    if value is None:
        return None if type(None) in types else "must not be null"
    if float in types and not _is_number(value):
        return "must be a number"
    return range_problem(value, knob.metadata)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
