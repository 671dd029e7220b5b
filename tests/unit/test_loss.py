"""The loss as the step uses it: DPO by numbers on paper, units of the global batch, and shares of a step."""

from dataclasses import replace
from decimal import Decimal, getcontext

import pytest
import torch
from loss_cases import CHOSEN, COUNTS, MIX, REJECTED, knobs_of, pair_logps, parts

from dpo.config.losses import (
    AotLossConfig,
    LossConfig,
    MixLossConfig,
    SftLossConfig,
    SigmoidLossConfig,
)
from dpo.data.batch import PairLogps, join
from dpo.losses.loss import Loss
from dpo.losses.registry import LOSSES

pytestmark = pytest.mark.unit


def exact_sigmoid(margin: str, beta: str, smoothing: str) -> tuple[float, float]:
    """Loss of one pair and its derivative by the chosen log-probability, at 50 digits."""
    getcontext().prec = 50
    d, e = Decimal(beta) * Decimal(margin), Decimal(smoothing)
    share = 1 / (1 + (-d).exp())  # sigmoid
    loss = -(1 - e) * share.ln() - e * (1 - share).ln()
    return float(loss), float(Decimal(beta) * (share - (1 - e)))


def one_pair(chosen: float, rejected: float, own_chosen: float, own_rejected: float) -> PairLogps:
    return pair_logps([chosen], [rejected], ([own_chosen], [own_rejected]))


@pytest.mark.parametrize("smoothing", ["0", "0.1", "0.49"])
@pytest.mark.parametrize("beta", ["0.1", "0.5", "2"])
@pytest.mark.parametrize("margin", ["0", "1.5", "-1.5", "17.25", "-40", "0.000001"])
def test_sigmoid_by_its_formula(margin: str, beta: str, smoothing: str) -> None:
    """-(1-e) log sigmoid(d) - e log sigmoid(-d) and its derivative, for a margin that is spread over all four sums."""
    m = float(margin)
    loss = Loss(SigmoidLossConfig(beta=float(beta), label_smoothing=float(smoothing)))
    (values,), slope = loss.value_and_slope(one_pair(-100 + m / 2, -80 - m / 4, -100, -80 + m / 4), [1])
    expected, derivative = exact_sigmoid(margin, beta, smoothing)
    assert values.tolist() == pytest.approx([expected], rel=1e-9, abs=1e-12)
    assert slope.tolist() == pytest.approx([derivative, -derivative], rel=1e-9, abs=1e-12)


def test_sigmoid_by_numbers_on_paper() -> None:
    """log(1 + e^-d), once worked out on paper: d = 0.1 * ((-10 + 12) - (-21 + 20)) = 0.3."""
    logps = one_pair(-10, -21, -12, -20)
    (values,), slope = Loss(SigmoidLossConfig(beta=0.1)).value_and_slope(logps, [1])
    assert values.item() == pytest.approx(0.5543552444685272, rel=1e-12)
    assert slope.tolist() == pytest.approx([-0.04255574831883410, 0.04255574831883410], rel=1e-12)
    (smoothed,) = Loss(SigmoidLossConfig(beta=0.1, label_smoothing=0.25)).values(logps)
    assert smoothed.item() == pytest.approx(0.5543552444685272 + 0.25 * 0.3, rel=1e-12)  # ls(d) - ls(-d) = d


def test_a_response_in_two_pairs_collects_both_slopes() -> None:
    logps = replace(pair_logps(), pairs=torch.tensor([(0, 4), (0, 5), (3, 4)]), margins=None)
    loss = Loss(SigmoidLossConfig(beta=0.3))
    _, slope = loss.value_and_slope(logps, [1])
    alone = [loss.value_and_slope(replace(logps, pairs=logps.pairs[i : i + 1]), [1])[1] for i in range(3)]
    torch.testing.assert_close(slope, alone[0] + alone[1] + alone[2], rtol=1e-14, atol=0)
    assert slope[0] == alone[0][0] + alone[1][0] and slope[1] == 0


def test_units_are_pairs_or_tokens_of_the_global_batch() -> None:
    assert Loss(SigmoidLossConfig()).units(COUNTS) == [7]
    assert Loss(SftLossConfig()).units(COUNTS) == [12]
    assert Loss(SftLossConfig(answers="both")).units(COUNTS) == [30]
    _, slope = Loss(SigmoidLossConfig()).value_and_slope(pair_logps(), [1])
    _, divided = Loss(SigmoidLossConfig()).value_and_slope(pair_logps(), [8])
    torch.testing.assert_close(divided, slope / 8, rtol=1e-14, atol=0)


def test_sft_learns_whose_answers_it_is_told() -> None:
    """Its units are tokens. Alone, the batch holds nothing but good answers."""
    both, chosen = Loss(SftLossConfig(answers="both")), Loss(SftLossConfig())
    (values,), slope = both.value_and_slope(pair_logps(), [1])
    assert values.tolist() == [-value for value in (*CHOSEN, *REJECTED)]
    assert slope.tolist() == [-1.0] * 8
    (values,), slope = chosen.value_and_slope(pair_logps(), [1])
    assert values.tolist() == [-value for value in CHOSEN]
    assert slope.tolist() == [-1.0] * 4 + [0.0] * 4
    alone = replace(pair_logps(), pairs=torch.zeros(0, 2, dtype=torch.long), desirable=torch.arange(8), margins=None)
    assert chosen.values(alone)[0].tolist() == [-value for value in (*CHOSEN, *REJECTED)]
    assert (chosen.answers, both.answers, chosen.compares, chosen.first) == ("chosen", "both", False, None)


def test_the_gradient_does_not_reach_the_reference_and_keeps_no_graph() -> None:
    logps = pair_logps()
    logps.policy.requires_grad_()
    assert logps.reference is not None
    logps.reference.requires_grad_()
    for name in LOSSES:
        loss = Loss(knobs_of(name))
        share = loss.shares([logps], learning=True)[0]
        (values,), slope = loss.value_and_slope(logps, [1], share)
        assert not values.requires_grad and not slope.requires_grad, name
    assert logps.reference.grad is None


def test_fillers_have_neither_value_nor_slope() -> None:
    filler = PairLogps(
        policy=torch.tensor([-777.0]),
        reference=None,
        tokens=torch.ones(1),
        pairs=torch.zeros(0, 2, dtype=torch.long),
        real=False,
    )
    for knobs in (SigmoidLossConfig(), SftLossConfig(), AotLossConfig(), MixLossConfig(terms=MIX)):
        loss = Loss(knobs)
        shares = loss.shares([filler, pair_logps(), filler], learning=True)
        for share in (shares[0], shares[2]):
            values, slope = loss.value_and_slope(filler, [1] * len(loss.terms), share)
            assert [len(value) for value in values] == [0] * len(loss.terms) and slope.tolist() == [0.0]


# The whole step


def in_parts(knobs: LossConfig, *sizes: int) -> tuple[list[float], list[float], list[float]]:
    """(sum of every term over the step, slopes of chosen, slopes of rejected responses)."""
    loss = Loss(knobs)
    micro = parts(*sizes)
    shares = loss.shares(micro, learning=True)
    sums, chosen, rejected = [0.0] * len(loss.terms), [], []
    for logps, share in zip(micro, shares, strict=True):
        values, slope = loss.value_and_slope(logps, loss.units(COUNTS), share)
        sums = [total + value.sum().item() for total, value in zip(sums, values, strict=True)]
        chosen += slope[: len(logps.pairs)].tolist()
        rejected += slope[len(logps.pairs) :].tolist()
    return sums, chosen, rejected


@pytest.mark.parametrize("name", [*LOSSES, "mix"])
@pytest.mark.parametrize("sizes", [(2, 2), (1, 1, 1, 1), (3, 1)])
def test_micro_batches_change_nothing(name: str, sizes: tuple[int, ...]) -> None:
    """A loss that ranks within a micro-batch would give other values for every cut."""
    knobs = MixLossConfig(terms=MIX) if name == "mix" else knobs_of(name)
    whole, cut = in_parts(knobs, 4), in_parts(knobs, *sizes)
    for one, other in zip(whole, cut, strict=True):
        assert other == pytest.approx(one, rel=1e-12)


def test_ranks_are_those_of_the_step() -> None:
    """Within pairs alone aot would be DPO: each pair is its own first rank."""
    together, alone = in_parts(AotLossConfig(beta=0.3), 4)[0], in_parts(SigmoidLossConfig(beta=0.3), 4)[0]
    assert abs(together[0] - alone[0]) > 0.1


def test_joined_parts_are_the_whole() -> None:
    one, joined = pair_logps(), join(parts(3, 1))
    for side in (0, 1):
        assert joined.sides(joined.policy)[side].tolist() == one.sides(one.policy)[side].tolist()
        assert joined.sides(joined.tokens)[side].tolist() == one.sides(one.tokens)[side].tolist()
    assert joined.margins is not None and one.margins is not None
    assert joined.margins.tolist() == one.margins.tolist()


# The loss of a pair alone, for what is written down of bad steps


def test_the_loss_of_each_pair() -> None:
    logps = pair_logps()
    alone = Loss(SigmoidLossConfig()).per_pair(logps)
    assert alone is not None and alone.tolist() == Loss(SigmoidLossConfig()).values(logps)[0].tolist()
    both = Loss(SftLossConfig(answers="both")).per_pair(logps)
    assert both is not None and both.tolist() == [-c - r for c, r in zip(CHOSEN, REJECTED, strict=True)]
    mix = Loss(MixLossConfig(terms=[{"name": "sigmoid"}, {"name": "sft", "weight": 2}])).per_pair(logps)
    plain = Loss(SigmoidLossConfig()).values(logps)[0].tolist()
    assert mix is not None and mix.tolist() == pytest.approx([v - 2 * c for v, c in zip(plain, CHOSEN, strict=True)])
    for name in ("aot", "bco", "kto"):
        assert Loss(knobs_of(name)).per_pair(logps) is None
