"""Losses against cases that were evaluated at 50 digits from the papers' formulas; the file lies beside the project."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from dpo.data.batch import PairLogps
from dpo.losses.loss import Loss
from dpo.losses.registry import LOSSES

FILE = Path(__file__).resolve().parents[2].parent / "shared" / "reference" / "loss_cases.json"
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not FILE.is_file(), reason=f"the file {FILE} is not there"),
]
CASES: list[dict[str, Any]] = json.loads(FILE.read_text()) if FILE.is_file() else []
# Losses that the file has none of: the baselines of bco, beta_dpo and kto are no inputs of it, sft is no preference.
WITHOUT = {"bco", "beta_dpo", "kto", "sft"}
NAMES = [f"{case['loss']} {case['hyper']}" for case in CASES]


def logps_of(case: dict[str, Any], dtype: torch.dtype) -> PairLogps:
    n, margins = len(case["policy_chosen_logps"]), case["hyper"].get("margin")
    return PairLogps(
        policy=torch.tensor(case["policy_chosen_logps"] + case["policy_rejected_logps"], dtype=dtype),
        reference=torch.tensor(case["ref_chosen_logps"] + case["ref_rejected_logps"], dtype=dtype),
        tokens=torch.tensor(case["chosen_lengths"] + case["rejected_lengths"], dtype=torch.float32),
        pairs=torch.tensor([(i, n + i) for i in range(n)]),
        margins=None if margins is None else torch.tensor(margins, dtype=dtype),
    )


def knobs_of(case: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in case["hyper"].items() if key != "margin"}


def computed(case: dict[str, Any], dtype: torch.dtype) -> tuple[list[float], list[float]]:
    """Losses of the pairs, and the gradient of their mean by chosen and then rejected log-probabilities."""
    logps, loss = logps_of(case, dtype), Loss(LOSSES[case["loss"]].knobs(**knobs_of(case)))
    share = loss.shares([logps], learning=True)[0]
    (values,), slope = loss.value_and_slope(logps, [len(logps.pairs)], share)
    return values.tolist(), slope.tolist()


def gradient(case: dict[str, Any]) -> list[float]:
    return case["grad_of_mean"]["policy_chosen"] + case["grad_of_mean"]["policy_rejected"]


def test_the_file_holds_every_loss() -> None:
    assert {case["loss"] for case in CASES} == LOSSES.keys() - WITHOUT


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_in_float64(case: dict[str, Any]) -> None:
    """Values per pair, their mean, and the gradient of the mean."""
    values, slope = computed(case, torch.float64)
    assert values == pytest.approx(case["per_pair_loss"], rel=1e-10, abs=1e-30)
    assert sum(values) / len(values) == pytest.approx(case["mean_loss"], rel=1e-10)
    assert slope == pytest.approx(gradient(case), rel=1e-10, abs=1e-30)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_in_float32(case: dict[str, Any]) -> None:
    """Within 1e-5 of the case's largest value. Rounding the inputs alone moves log-ratios by 1e-5 nats, much of
    a value near zero: ipo_sum's (d - 1 / (2 beta))^2, or forward KL's e^-29."""
    values, slope = computed(case, torch.float32)
    for found, expected in ((values, case["per_pair_loss"]), (slope, gradient(case))):
        assert found == pytest.approx(expected, rel=0, abs=1e-5 * max(map(abs, expected)))
