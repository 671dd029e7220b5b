"""Warnings about numbers that are finite: each once, with the number and the setting, and none about a healthy run."""

import math
import random
from typing import Any

import pytest

from dpo.config.schema import GuardConfig, OptimConfig
from dpo.symptoms import Symptoms

pytestmark = pytest.mark.unit


def symptoms(**changes: Any) -> Symptoms:
    return Symptoms(GuardConfig(**changes), OptimConfig(lr=5e-7), beta=0.1)


def record(step: int, **changes: float) -> dict[str, Any]:
    """Of a run that learns: the loss falls from ln 2, the accuracy rises, the answers keep their log-probabilities."""
    noise = random.Random(step).gauss(0, 1)
    learnt = 1 - math.exp(-step / 60)
    return {
        "step": step,
        "loss": 0.6931 - 0.4 * learnt + 0.02 * learnt * noise,
        "grad_norm": 4.0 * math.exp(0.3 * noise),
        "learning_rate": 5e-7 * min(1.0, step / 20),
        "rewards/accuracies": 0.5 + 0.3 * learnt + 0.03 * noise,
        "rewards/margins": 1.5 * learnt,
        "rewards/chosen": -0.5 * learnt,
        "kl/chosen": -5.0 * learnt,
        "logps/chosen": -200.0 - 5.0 * learnt + 8.0 * noise,
        **changes,
    }


def seen(found: Symptoms, records: list[dict[str, Any]]) -> list[str]:
    return [text for row in records for text in found.see(row)]


def test_a_run_that_learns_is_left_alone() -> None:
    assert seen(symptoms(), [record(step) for step in range(1, 500)]) == []


@pytest.mark.parametrize(("key", "value"), [("loss", 3.0), ("grad_norm", 90.0)])
def test_a_spike_is_told_once(key: str, value: float) -> None:
    records = [record(step, **({key: value} if step in (80, 90) else {})) for step in range(1, 100)]
    (text,) = seen(symptoms(), records)
    assert text.startswith(f"step 80: {key} is {value:.4g}")
    assert "guard.spike_sigmas=10" in text
    assert "optim.lr (5e-07)" in text
    assert seen(symptoms(spike_sigmas=None), records) == []


def test_the_first_records_are_no_spikes() -> None:
    assert seen(symptoms(), [record(step, grad_norm=90.0 if step == 15 else 4.0) for step in range(1, 30)]) == []


def test_an_accuracy_that_stays_at_one_half() -> None:
    """Told once the learning rate has been at its top for a window; a warm-up is given its time."""
    still = {"loss": 0.6931, "rewards/accuracies": 0.51}
    records = [record(step, **still) for step in range(1, 200)]
    (text,) = seen(symptoms(), records)
    assert text.startswith("step 69: rewards/accuracies is 0.510 and the loss 0.6931")
    assert "optim.lr (5e-07)" in text
    slow = [record(step, **still, learning_rate=1e-9 * step) for step in range(1, 200)]
    assert seen(symptoms(), slow) == [], "the warm-up is not over"
    moving = [record(step, **{**still, "loss": 0.6931 - 0.0005 * step}) for step in range(1, 200)]
    assert seen(symptoms(), moving) == []


def test_chosen_answers_that_collapse() -> None:
    """From -200 to below -300 nats while margins grow; without that it is another kind of fault."""
    falling = [record(step, **{"logps/chosen": -200.0 - step}) for step in range(1, 300)]
    text, again = seen(symptoms(), falling)
    assert "logps/chosen fell from -205.5 to -308" in text
    assert "logps/chosen fell from -205.5 to -411" in again, "once more, when the fall has doubled"
    assert "guard.chosen_drop=0.5" in text
    assert "Raise loss.beta (0.1)" in text
    assert "loss=rpo" in text
    other, _ = seen(Symptoms(GuardConfig(), OptimConfig(lr=5e-7), beta=None), falling)
    assert "Lower optim.lr (5e-07)" in other and "loss.beta" not in other
    assert seen(symptoms(), [row | {"rewards/margins": -row["rewards/margins"]} for row in falling]) == []
    assert seen(symptoms(chosen_drop=None), falling) == []


@pytest.mark.parametrize("sign", [1, -1])
def test_a_policy_far_from_its_reference(sign: int) -> None:
    records = [record(step, **{"kl/chosen": sign * step}) for step in range(1, 130)]
    (text,) = seen(symptoms(), records)
    assert text.startswith("step 105: the policy is "), "the mean of steps 96 to 105 is the first over 100 nats"
    assert f"{sign * 100.5:+.4g} nats" in text
    assert seen(symptoms(max_kl=None), records) == []


def test_a_loss_without_a_reference_has_only_spikes() -> None:
    records = [
        {key: row[key] for key in ("step", "loss", "grad_norm", "learning_rate")} for row in map(record, range(200))
    ]
    records[150]["loss"] = 9.0
    found = Symptoms(GuardConfig(), OptimConfig(lr=5e-7), beta=None)
    assert [text.split(":")[0] for text in seen(found, records)] == ["step 150"]


def test_steps_that_were_not_applied_change_nothing() -> None:
    records = [
        record(step, **({"loss": math.nan, "grad_norm": math.inf} if step == 70 else {})) for step in range(1, 99)
    ]
    assert seen(symptoms(), records) == []
