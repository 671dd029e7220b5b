"""Log-ratios of +-1e4, equal sides and probability one: finite losses and slopes, by caps that never make a loss flat
where it is largest."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_cases import DOUBLE, computed, knobs_of, pair_logps

from dpo.losses.capped import CERTAIN, LARGEST_EXPONENT, expm1_capped, log_odds
from dpo.losses.loss import Loss
from dpo.losses.registry import LOSSES

pytestmark = pytest.mark.unit

SETTINGS = [
    *((kind.name, {}) for kind in [kind for kind in LOSSES.values() if kind.per == "pair"]),
    *(("sigmoid", {"f_divergence": f}) for f in ("forward_kl", "js_divergence", "alpha_divergence")),
    ("sigmoid", {"f_divergence": "alpha_divergence", "alpha": 0.0}),
    ("discopop", {"discopop_tau": 5.0}),
    ("beta_dpo", {"margin_weight": 2.0, "momentum": 0.0}),
    ("sigmoid_norm", {"beta": 10.0}),
]
far = st.one_of(
    st.sampled_from([0.0, -1e4, -1e-9, -1.0, -88.0, -104.0]),
    st.floats(-1e4, 0, allow_subnormal=False),
)


@pytest.mark.parametrize(("name", "knobs"), SETTINGS, ids=str)
@settings(max_examples=25, deadline=None)
@given(data=st.data(), dtype=st.sampled_from([torch.float32, torch.bfloat16, DOUBLE]))
def test_extremes_stay_finite(name: str, knobs: dict[str, Any], data: st.DataObject, dtype: torch.dtype) -> None:
    """Log-ratios of +-1e4, equal sides, probability one, in every type: a finite loss, a slope that float32 can square,
    and both again from the functions in the type itself where that is float32 or wider."""
    sides = [data.draw(st.lists(far, min_size=2, max_size=2)) for _ in range(4)]
    logps = pair_logps(sides[0], sides[1], (sides[2], sides[3]), dtype=dtype)
    values, slope = computed(Loss(knobs_of(name, **knobs)), logps)
    assert values.isfinite().all()
    assert (slope.double() ** 2 < torch.finfo(torch.float32).max).all()
    if dtype != torch.bfloat16:
        assert LOSSES[name].function(logps, knobs_of(name, **knobs)).isfinite().all()


FLAT = ("apo_zero", "apo_down", "kto", "exo_pair")  # by their formula: bounded losses saturate


@pytest.mark.parametrize(
    ("name", "knobs"),
    [(name, knobs) for name, knobs in SETTINGS if name not in FLAT],
    ids=str,
)
def test_a_pair_far_on_the_wrong_side_still_pulls(name: str, knobs: dict[str, Any]) -> None:
    """Past a cap a loss goes on along its tangent: it never becomes flat where it is largest."""
    wrong = pair_logps([-9e3] * 2, [-1.0] * 2, ([-1.0] * 2, [-9e3] * 2))
    _, slope = computed(Loss(knobs_of(name, **knobs)), wrong)
    assert (slope[:2] < 0).all()


def test_below_their_caps_functions_are_exact() -> None:
    u = torch.tensor([-50.0, -1e-9, 0.0, 1e-9, 3.0, LARGEST_EXPONENT], dtype=DOUBLE)
    assert torch.equal(expm1_capped(u), torch.expm1(u))
    p = torch.tensor([0.001, 0.5, 0.999], dtype=DOUBLE)
    torch.testing.assert_close(log_odds(p.log()), torch.logit(p), rtol=1e-12, atol=1e-12)


def test_above_they_go_on_straight() -> None:
    u = torch.tensor([LARGEST_EXPONENT + 3, 2e4], dtype=torch.float32, requires_grad=True)
    values = expm1_capped(u)
    assert values.tolist() == pytest.approx([2.353852668e17 * 4, 2.353852668e17 * (2e4 - 39)], rel=1e-5)
    values.sum().backward()
    assert u.grad is not None and u.grad.tolist() == pytest.approx([2.353852668e17] * 2, rel=1e-5)
    assert log_odds(torch.tensor([0.0, CERTAIN / 2])).tolist() == pytest.approx([13.8155] * 2, rel=1e-5)
