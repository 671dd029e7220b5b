"""Losses against cases that were evaluated at 50 digits from the papers' formulas; the file lies beside the project."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from dpo.loss import Loss

from dpo.config.schema import SigmoidLossConfig
from dpo.data.batch import PairLogps

FILE = Path(__file__).resolve().parents[2].parent / "shared" / "reference" / "loss_cases.json"
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not FILE.is_file(), reason=f"the file {FILE} is not there"),
]


def sigmoid_cases() -> list[dict[str, Any]]:
    """Cases of the plain loss; those with an f-divergence are another loss."""
    if not FILE.is_file():
        return []
    cases = json.loads(FILE.read_text())
    return [c for c in cases if c["loss"] == "sigmoid" and set(c["hyper"]) <= {"beta", "label_smoothing"}]


def test_the_file_holds_the_cases() -> None:
    assert len(sigmoid_cases()) >= 2
    assert any(case["hyper"].get("label_smoothing") for case in sigmoid_cases())


@pytest.mark.parametrize("case", sigmoid_cases(), ids=lambda case: str(case["hyper"]))
def test_sigmoid(case: dict[str, Any]) -> None:
    """Values per pair, their mean, and the gradient of the mean, in float64."""
    chosen, rejected = case["policy_chosen_logps"], case["policy_rejected_logps"]
    n = len(chosen)
    logps = PairLogps(
        policy=torch.tensor(chosen + rejected, dtype=torch.float64),
        reference=torch.tensor(case["ref_chosen_logps"] + case["ref_rejected_logps"], dtype=torch.float64),
        tokens=torch.tensor(case["chosen_lengths"] + case["rejected_lengths"], dtype=torch.float32),
        pairs=torch.tensor([(i, n + i) for i in range(n)]),
    )
    loss = Loss(SigmoidLossConfig(**case["hyper"]))
    values, slope = loss.value_and_slope(logps)
    gradient = (slope / loss.denominator(n, 0)).tolist()
    assert values.tolist() == pytest.approx(case["per_pair_loss"], rel=1e-10)
    assert values.mean().item() == pytest.approx(case["mean_loss"], rel=1e-10)
    assert gradient[:n] == pytest.approx(case["grad_of_mean"]["policy_chosen"], rel=1e-10)
    assert gradient[n:] == pytest.approx(case["grad_of_mean"]["policy_rejected"], rel=1e-10)
