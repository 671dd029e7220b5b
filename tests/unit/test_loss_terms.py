"""Sums of several losses, what a loss remembers between steps, and a beta that changes over the run."""

import math

import pytest
import torch
from loss_cases import CHOSEN, COUNTS, DOUBLE, MIX, REJECTED, knobs_of, pair_logps, parts

from dpo.config.losses import BcoLossConfig, BetaDpoLossConfig, MixLossConfig, SftLossConfig, SigmoidLossConfig
from dpo.losses.loss import Loss

pytestmark = pytest.mark.unit


# Sums of losses


def test_a_mix_is_the_weighted_sum_each_divided_by_its_own_units() -> None:
    loss = Loss(MixLossConfig(terms=MIX))
    assert [term.name for term in loss.terms] == ["sigmoid", "aot", "sft"]
    assert (loss.scope, loss.needs_reference, loss.answers, loss.units(COUNTS)) == ("step", True, "both", [7, 7, 12])
    logps = pair_logps()
    shares = loss.shares([logps], learning=True)
    values, slope = loss.value_and_slope(logps, loss.units(COUNTS), shares[0])
    expected = torch.zeros(8, dtype=DOUBLE)
    for i, (name, weight, knobs) in enumerate([("sigmoid", 0.8, {"beta": 0.3}), ("aot", 1.0, {}), ("sft", 0.5, {})]):
        alone = Loss(knobs_of(name, **knobs))
        (own,), own_slope = alone.value_and_slope(logps, alone.units(COUNTS), alone.shares([logps], learning=True)[0])
        assert values[i].tolist() == own.tolist()
        expected += weight * own_slope
    torch.testing.assert_close(slope, expected, rtol=1e-14, atol=0)


def test_what_a_mix_inherits_from_its_terms() -> None:
    def mix(*names: str) -> Loss:
        return Loss(MixLossConfig(terms=[{"name": name} for name in names]))

    assert mix("simpo", "sft").needs_reference is False and mix("simpo", "dpop").needs_reference is True
    assert mix("sigmoid", "odpo").needs_margin and not mix("sigmoid", "hinge").needs_margin
    assert mix("sigmoid", "kto").needs_mismatched and mix("sigmoid", "kto").scope == "pair"
    assert mix("sigmoid", "bco").remembers and not mix("sigmoid", "aot").remembers
    assert mix("sigmoid", "hinge").first == math.log(2) + 1 and mix("sigmoid", "sft").first is None
    both = Loss(MixLossConfig(terms=[{"name": "sft"}, {"name": "sft", "answers": "both"}]))
    assert (both.answers, both.compares, mix("sft").answers) == ("both", False, "chosen")
    assert not mix("sft").has_rewards and mix("sft", "hinge").has_rewards
    assert [term.name for term in mix("hinge", "sigmoid", "hinge").terms] == ["hinge_1", "sigmoid", "hinge_3"]


# What bco remembers


def test_the_shift_is_the_mean_of_all_rewards_so_far() -> None:
    """Cut anywhere, over several steps; a step that was not applied leaves nothing."""
    loss, logps = Loss(BcoLossConfig(beta=0.3)), pair_logps()
    rewards = [0.3 * value for value in (logps.policy - logps.reference).tolist()]  # type: ignore[operator]
    loss.shares(parts(3, 1), learning=True)
    assert loss.baseline(logps) == pytest.approx(sum(rewards) / 8)
    loss.shares(parts(2, 2), learning=True)  # the first was not accepted: the same mean again
    assert loss.baseline(logps) == pytest.approx(sum(rewards) / 8)
    loss.accept()
    half = [pair_logps(CHOSEN[:1], REJECTED[:1], ([-10.0], [-10.0]))]
    loss.shares(half, learning=True)
    both = (sum(rewards) + 0.3 * (CHOSEN[0] + 10 + REJECTED[0] + 10)) / 10
    assert loss.baseline(logps) == pytest.approx(both)
    loss.shares(half, learning=False)
    assert loss.baseline(logps) == pytest.approx(sum(rewards) / 8), "the held-out set teaches nothing"
    loss.shares(half, learning=True)
    loss.accept()
    again = Loss(BcoLossConfig(beta=0.3))
    again.load_state_dict(loss.state_dict())
    again.shares(half, learning=False)
    assert again.baseline(logps) == loss.baseline(logps) == pytest.approx(both)
    assert loss.state_dict() == {"bco": {"mean": pytest.approx(both), "count": 10}}


# The beta of a step


def test_beta_follows_the_margin_of_the_step() -> None:
    """By hand, with a moving average that only applied steps of training move."""
    loss = Loss(BetaDpoLossConfig(beta=0.2, margin_weight=0.5, momentum=0.75))
    assert loss.betas == {} and loss.baseline(pair_logps()) == 0

    def step(margin: float, learning: bool = True) -> float:
        """A step of two pairs with this mean margin. Its beta, by its loss."""
        sides = [-10 + margin / 2 - 1, -10 + margin / 2 + 1]
        logps = pair_logps(sides, [-10 - margin / 2] * 2, ([-10.0] * 2, [-10.0] * 2))
        ((share,),) = loss.shares([logps], learning=learning)
        assert share is not None
        low, high = (-share[0].expm1().log()).tolist()  # -log sigmoid(u) -> u
        return (high - low) / 2  # their margins are 2 nats apart

    assert step(4.0) == pytest.approx(0.2 * (1 + 0.5 * (4 - 1)))
    assert step(4.0) == pytest.approx(0.2 * (1 + 0.5 * (4 - 1))), "the first was not accepted: the same average again"
    assert loss.betas == {"beta": pytest.approx(0.5)} and loss.baseline(pair_logps()) == pytest.approx(0.2)
    loss.accept()
    assert loss.state_dict() == {"beta_dpo": {"mean": pytest.approx(1.0)}}
    assert step(2.0, learning=False) == pytest.approx(0.2 * (1 + 0.5 * (2 - 1)))
    assert loss.betas == {"beta": pytest.approx(0.5)}, "the held-out set is no step"
    again = Loss(BetaDpoLossConfig(beta=0.2, margin_weight=0.5, momentum=0.75))
    again.load_state_dict(loss.state_dict())
    loss = again
    assert step(2.0) == pytest.approx(0.2 * (1 + 0.5 * (2 - 1.25)))
    loss.accept()
    assert loss.state_dict() == {"beta_dpo": {"mean": pytest.approx(0.75 * 1 + 0.25 * 2)}}
    assert step(-9.0) == pytest.approx(0.2 * 0.01), "not negative, where the mean margin falls far below the average"
    assert loss.beta == 0.2


def test_without_weight_beta_dpo_is_dpo() -> None:
    dpo, loss = Loss(SigmoidLossConfig(beta=0.3)), Loss(BetaDpoLossConfig(beta=0.3, margin_weight=0.0))
    (share,) = loss.shares([pair_logps()], learning=True)
    assert loss.values(pair_logps(), share)[0].tolist() == pytest.approx(dpo.values(pair_logps())[0].tolist())


def test_two_losses_that_remember_do_so_apart() -> None:
    terms = [{"name": "bco", "beta": 0.1}, {"name": "bco", "beta": 0.4}]
    loss = Loss(MixLossConfig(terms=terms))
    loss.shares([pair_logps()], learning=True)
    loss.accept()
    found = {name: state["mean"] for name, state in loss.state_dict().items()}
    assert found["bco_2"] == pytest.approx(4 * found["bco_1"]) and found["bco_1"] != 0


# A beta that changes over the run


def test_beta_goes_linearly_to_its_final_value() -> None:
    loss = Loss(SigmoidLossConfig(beta=0.4, beta_final=0.1))
    assert loss.first == math.log(2) and loss.betas == {"beta": 0.4}
    for progress, beta in ((0.0, 0.4), (0.5, 0.25), (1.0, 0.1), (0.5, 0.25)):
        loss.at(progress)
        constant = Loss(SigmoidLossConfig(beta=beta))
        assert loss.betas["beta"] == loss.beta == pytest.approx(beta)
        assert loss.values(pair_logps())[0].tolist() == pytest.approx(constant.values(pair_logps())[0].tolist())
        assert loss.rewards(pair_logps())[0].tolist() == pytest.approx(constant.rewards(pair_logps())[0].tolist())


def test_terms_have_betas_of_their_own() -> None:
    terms = [{"name": "sigmoid", "beta": 0.4, "beta_final": 0.2}, {"name": "hinge"}, {"name": "sft"}]
    loss = Loss(MixLossConfig(terms=terms))
    loss.at(0.5)
    assert loss.betas == {"beta/sigmoid": pytest.approx(0.3)}
    assert Loss(SigmoidLossConfig()).betas == Loss(SftLossConfig()).betas == {}
