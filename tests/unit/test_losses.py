"""Every loss of the table: its values by plain arithmetic, its slope by differences, its first value, and its caps."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from loss_cases import (
    CHOSEN,
    DOUBLE,
    LENGTHS_CHOSEN,
    LENGTHS_REJECTED,
    MARGINS,
    REF_CHOSEN,
    REF_REJECTED,
    REJECTED,
    computed,
    knobs_of,
    moved,
    pair_logps,
)

from dpo.losses.kind import LossKind
from dpo.losses.loss import Loss
from dpo.losses.registry import LOSSES

pytestmark = pytest.mark.unit

X = [c - r for c, r in zip(CHOSEN, REF_CHOSEN, strict=True)]
Y = [c - r for c, r in zip(REJECTED, REF_REJECTED, strict=True)]
RANKED_X, RANKED_Y = sorted(X), sorted(Y)
RANKED = [
    a - b
    for a, b in zip(
        sorted(c - r for c, r in zip(CHOSEN, REJECTED, strict=True)),
        sorted(c - r for c, r in zip(REF_CHOSEN, REF_REJECTED, strict=True)),
        strict=True,
    )
]


def s(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def ls(z: float) -> float:
    return math.log(s(z))


def odds(u: float) -> float:
    return math.log(math.exp(u) / (1 - math.exp(u)))


def per_token(i: int) -> tuple[float, float]:
    return CHOSEN[i] / LENGTHS_CHOSEN[i], REJECTED[i] / LENGTHS_REJECTED[i]


def mean_margin(i: int) -> float:
    return X[i] / LENGTHS_CHOSEN[i] - Y[i] / LENGTHS_REJECTED[i]


def f_dpo(f: Callable[[float], float]) -> Callable[[int], float]:
    return lambda i: -ls(0.3 * (f(X[i]) - f(Y[i])))


# name, knobs, the loss of pair, rank or answer i as the paper writes it
WRITTEN: list[tuple[str, dict[str, Any], Callable[[int], float]]] = [
    ("sigmoid", {"beta": 0.3}, lambda i: -ls(0.3 * (X[i] - Y[i]))),
    (
        "sigmoid",
        {"beta": 0.3, "label_smoothing": 0.2},
        lambda i: -0.8 * ls(0.3 * (X[i] - Y[i])) - 0.2 * ls(-0.3 * (X[i] - Y[i])),
    ),
    ("sigmoid", {"beta": 0.3, "f_divergence": "forward_kl"}, f_dpo(lambda u: 1 - math.exp(-u))),
    ("sigmoid", {"beta": 0.3, "f_divergence": "js_divergence"}, f_dpo(lambda u: math.log(2) + ls(u))),
    (
        "sigmoid",
        {"beta": 0.3, "f_divergence": "alpha_divergence", "alpha": 0.7},
        f_dpo(lambda u: (math.exp(-0.3 * u) - 1) / -0.3),
    ),
    ("sigmoid", {"beta": 0.3, "f_divergence": "alpha_divergence"}, f_dpo(lambda u: (math.exp(-0.5 * u) - 1) / -0.5)),
    ("sigmoid", {"beta": 0.3, "f_divergence": "alpha_divergence", "alpha": 1.0}, f_dpo(lambda u: u)),
    ("beta_dpo", {"beta": 0.3, "margin_weight": 0.2}, lambda i: -ls(STEP_BETA * (X[i] - Y[i]))),
    (
        "robust",
        {"beta": 0.3, "label_smoothing": 0.2},
        lambda i: (-0.8 * ls(0.3 * (X[i] - Y[i])) + 0.2 * ls(-0.3 * (X[i] - Y[i]))) / 0.6,
    ),
    ("hinge", {"beta": 0.3}, lambda i: max(0.0, 1 - 0.3 * (X[i] - Y[i]))),
    ("ipo", {"beta": 0.3}, lambda i: (mean_margin(i) - 1 / 0.6) ** 2),
    ("ipo_sum", {"beta": 0.3}, lambda i: (X[i] - Y[i] - 1 / 0.6) ** 2),
    (
        "exo_pair",
        {"beta": 0.3, "label_smoothing": 0.1},
        lambda i: sum(
            s(z) * (ls(z) - math.log(p)) for z, p in ((0.3 * (X[i] - Y[i]), 0.9), (0.3 * (Y[i] - X[i]), 0.1))
        ),
    ),
    ("nca_pair", {"beta": 0.3}, lambda i: -ls(0.3 * X[i]) - ls(-0.3 * X[i]) / 2 - ls(-0.3 * Y[i]) / 2),
    ("bco_pair", {"beta": 0.3}, lambda i: -ls(0.3 * X[i]) - ls(-0.3 * Y[i])),
    ("bco", {"beta": 0.3}, lambda i: -ls(0.3 * X[i] - DELTA) - ls(DELTA - 0.3 * Y[i])),
    (
        "kto",
        {"beta": 0.3, "desirable_weight": 1.5, "undesirable_weight": 0.8},
        lambda i: 1.5 * (1 - s(0.3 * (X[i] - Z0))) if i < 4 else 0.8 * (1 - s(0.3 * (Z0 - Y[i - 4]))),
    ),
    ("sppo_hard", {"beta": 0.3}, lambda i: (X[i] - 1 / 0.6) ** 2 + (Y[i] + 1 / 0.6) ** 2),
    ("apo_zero", {"beta": 0.3}, lambda i: 1 - s(0.3 * X[i]) + s(0.3 * Y[i])),
    ("apo_down", {"beta": 0.3}, lambda i: s(0.3 * X[i]) + 1 - s(0.3 * (X[i] - Y[i]))),
    (
        "discopop",
        {"beta": 0.3, "discopop_tau": 0.2},
        lambda i: (
            -ls(0.3 * (X[i] - Y[i])) * (1 - s(1.5 * (X[i] - Y[i])))
            + math.exp(-0.3 * (X[i] - Y[i])) * s(1.5 * (X[i] - Y[i]))
        ),
    ),
    ("sigmoid_norm", {"beta": 3.0}, lambda i: -ls(3 * mean_margin(i))),
    ("aot", {"beta": 0.3}, lambda i: -ls(0.3 * RANKED[i])),
    (
        "aot_unpaired",
        {"beta": 0.3, "label_smoothing": 0.2},
        lambda i: -0.8 * ls(0.3 * (RANKED_X[i] - RANKED_Y[i])) - 0.2 * ls(-0.3 * (RANKED_X[i] - RANKED_Y[i])),
    ),
    ("simpo", {"beta": 3.0, "gamma": 0.4}, lambda i: -ls(3 * (per_token(i)[0] - per_token(i)[1]) - 0.4)),
    (
        "orpo",
        {"beta": 0.3},
        lambda i: -per_token(i)[0] - 0.3 * ls(odds(per_token(i)[0]) - odds(per_token(i)[1])),
    ),
    (
        "cpo",
        {"beta": 0.3, "nll_weight": 0.7},
        lambda i: -ls(0.3 * (CHOSEN[i] - REJECTED[i])) - 0.7 * per_token(i)[0],
    ),
    ("rpo", {"beta": 0.3, "nll_weight": 0.7}, lambda i: -ls(0.3 * (X[i] - Y[i])) - 0.7 * per_token(i)[0]),
    ("odpo", {"beta": 0.3, "margin_scale": 0.5}, lambda i: -ls(0.3 * (X[i] - Y[i]) - 0.5 * MARGINS[i])),
    (
        "rdpo",
        {"beta": 0.3, "length_weight": 0.02},
        lambda i: -ls(0.3 * (X[i] - Y[i]) + 0.02 * (LENGTHS_CHOSEN[i] - LENGTHS_REJECTED[i])),
    ),
    ("dpop", {"beta": 0.3, "dpop_lambda": 2.0}, lambda i: -ls(0.3 * (X[i] - Y[i] - 2 * max(0.0, -X[i])))),
]
Z0 = 0.75
# Of beta_dpo: the mean margin, and the moving average of it after its first step from 0 on.
MEAN = sum(x - y for x, y in zip(X, Y, strict=True)) / 4
M0 = 0.1 * MEAN
STEP_BETA = 0.3 * (1 + 0.2 * (MEAN - M0))
DELTA = sum(0.3 * value for value in (*X, *Y)) / 8  # no step before this one
BASELINES = {"bco": DELTA, "beta_dpo": M0}
NAMES = [f"{name} {' '.join(knobs)}" for name, knobs, _ in WRITTEN]
PREFERENCES = [kind for kind in LOSSES.values() if kind.per != "token"]
UNITS = {"pair": 4, "answer": 8}


def test_every_loss_is_written_down_here() -> None:
    assert {name for name, _, _ in WRITTEN} == {kind.name for kind in PREFERENCES}


@pytest.mark.parametrize(("name", "knobs", "written"), WRITTEN, ids=NAMES)
def test_values_are_those_of_the_formula(name: str, knobs: dict[str, Any], written: Callable[[int], float]) -> None:
    """In float64 to the last digits. In float32 the functions themselves, before the widening that `Loss` does, against
    the same rounded numbers in float64."""
    values, _ = computed(Loss(knobs_of(name, **knobs)), pair_logps(baseline=Z0))
    assert values.tolist() == pytest.approx([written(i) for i in range(UNITS[LOSSES[name].per])], rel=1e-12, abs=1e-14)
    single = pair_logps(dtype=torch.float32, baseline=BASELINES.get(name, Z0))
    kind, own = LOSSES[name], knobs_of(name, **knobs)
    exact = kind.function(single.widened(), own).tolist()
    assert kind.function(single, own).tolist() == pytest.approx(exact, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(("name", "knobs", "written"), WRITTEN, ids=NAMES)
def test_slopes_are_the_derivatives(name: str, knobs: dict[str, Any], written: Callable[[int], float]) -> None:
    """By central differences of the sum over the step, divided by its units. bco's shift and beta_dpo's beta count as
    constants."""
    logps = pair_logps(baseline=Z0)
    _, slope = computed(Loss(knobs_of(name, **knobs)), logps, units=4)
    kind, own = LOSSES[name], knobs_of(name, **knobs)
    if name == "beta_dpo":
        kind, own = LOSSES["sigmoid"], knobs_of("sigmoid", beta=STEP_BETA)
    logps.baseline = BASELINES.get(name, Z0)
    h = 1e-5
    for i in range(8):
        step = torch.zeros(8, dtype=DOUBLE)
        step[i] = h
        higher, lower = (kind.function(moved(logps, by), own).sum().item() for by in (step, -step))
        assert slope[i].item() == pytest.approx((higher - lower) / (2 * h) / 4, abs=1e-7, rel=1e-7)


@pytest.mark.parametrize("kind", [k for k in LOSSES.values() if k.first(k.knobs()) is not None], ids=lambda k: k.name)
def test_first_values_in_closed_form(kind: LossKind) -> None:
    """Policy = reference: the same number for every pair, whatever the lengths and margins."""
    same = pair_logps(reference=(CHOSEN, REJECTED))
    for knobs in (kind.knobs(), kind.knobs(beta=0.7)):
        loss = Loss(knobs)
        assert loss.first is not None
        assert computed(loss, same)[0].tolist() == pytest.approx([loss.first] * UNITS[kind.per], rel=1e-12)


def test_losses_without_a_closed_form_depend_on_the_data() -> None:
    same = pair_logps(reference=(CHOSEN, REJECTED))
    for kind in PREFERENCES:
        if kind.first(kind.knobs()) is None:
            assert len(set(computed(Loss(kind.knobs()), same)[0].tolist())) > 1, kind.name


@pytest.mark.parametrize("kind", PREFERENCES, ids=lambda k: k.name)
def test_a_better_chosen_answer_has_the_higher_reward(kind: LossKind) -> None:
    """Rewards rank a pair as the loss itself does: the margin grows along the way down."""
    assert kind.rewards is not None
    logps = pair_logps(baseline=Z0)
    chosen, rejected = kind.rewards(logps, kind.knobs())
    up = torch.tensor([0.01] * 4 + [-0.01] * 4, dtype=DOUBLE)
    better, worse = kind.rewards(moved(logps, up), kind.knobs())
    assert ((better - worse) > (chosen - rejected)).all()
    assert chosen.shape == rejected.shape == (4,)
