"""Losses against values computed by hand, their slopes against autograd, and metrics that weigh by pairs."""

import math
from decimal import Decimal, getcontext

import pytest
import torch
from dpo.loss import LOSSES, Loss, rewards
from torch import Tensor

from dpo.config.schema import SftLossConfig, SigmoidLossConfig
from dpo.data.batch import PairLogps, PromptGroup
from dpo.data.collate import collate
from dpo.metrics import TIE, StepStats, accuracies

pytestmark = pytest.mark.unit

DOUBLE = torch.float64


def pair_logps(policy: list[float], reference: list[float], pairs: list[tuple[int, int]] | None = None) -> PairLogps:
    """Responses in the order chosen, rejected, chosen, rejected, ... unless `pairs` says otherwise."""
    chosen = pairs or [(i, i + 1) for i in range(0, len(policy), 2)]
    return PairLogps(
        policy=torch.tensor(policy, dtype=DOUBLE),
        reference=torch.tensor(reference, dtype=DOUBLE),
        tokens=torch.arange(1.0, len(policy) + 1),
        pairs=torch.tensor(chosen),
    )


def exact_sigmoid(margin: str, beta: str, smoothing: str) -> tuple[float, float]:
    """Loss of one pair and its derivative by the chosen log-probability, at 50 digits."""
    getcontext().prec = 50
    d, e = Decimal(beta) * Decimal(margin), Decimal(smoothing)
    share = 1 / (1 + (-d).exp())  # sigmoid
    loss = -(1 - e) * share.ln() - e * (1 - share).ln()
    return float(loss), float(Decimal(beta) * (share - (1 - e)))


@pytest.mark.parametrize("smoothing", ["0", "0.1", "0.49"])
@pytest.mark.parametrize("beta", ["0.1", "0.5", "2"])
@pytest.mark.parametrize("margin", ["0", "1.5", "-1.5", "17.25", "-40", "0.000001"])
def test_sigmoid_by_its_formula(margin: str, beta: str, smoothing: str) -> None:
    """-(1-e) log sigmoid(d) - e log sigmoid(-d) and its derivative, for a margin that is spread over all four sums."""
    m = float(margin)
    logps = pair_logps([-100 + m / 2, -80 - m / 4], [-100, -80 + m / 4])
    values, slope = Loss(SigmoidLossConfig(beta=float(beta), label_smoothing=float(smoothing))).value_and_slope(logps)
    loss, derivative = exact_sigmoid(margin, beta, smoothing)
    assert values.tolist() == pytest.approx([loss], rel=1e-9, abs=1e-12)
    assert slope.tolist() == pytest.approx([derivative, -derivative], rel=1e-9, abs=1e-12)


def test_sigmoid_by_numbers_on_paper() -> None:
    """log(1 + e^-d), once worked out on paper: d = 0.1 * ((-10 + 12) - (-21 + 20)) = 0.3."""
    loss = Loss(SigmoidLossConfig(beta=0.1))
    values, slope = loss.value_and_slope(pair_logps([-10, -21], [-12, -20]))
    assert values.item() == pytest.approx(0.5543552444685272, rel=1e-12)
    assert slope.tolist() == pytest.approx([-0.04255574831883410, 0.04255574831883410], rel=1e-12)
    smoothed, _ = Loss(SigmoidLossConfig(beta=0.1, label_smoothing=0.25)).value_and_slope(
        pair_logps([-10, -21], [-12, -20])
    )
    assert smoothed.item() == pytest.approx(0.5543552444685272 + 0.25 * 0.3, rel=1e-12)  # ls(d) - ls(-d) = d


def test_far_margins_stay_finite() -> None:
    """A margin of +-10,000 in float32 gives a loss of 0 or 1,000 and a slope of 0 or beta, no infinity."""
    logps = PairLogps(
        policy=torch.tensor([0.0, -10_000.0, -10_000.0, 0.0]),
        reference=torch.zeros(4),
        tokens=torch.ones(4),
        pairs=torch.tensor([[0, 1], [2, 3]]),
    )
    values, slope = Loss(SigmoidLossConfig(beta=0.1)).value_and_slope(logps)
    assert values.tolist() == pytest.approx([0.0, 1000.0])
    assert slope.tolist() == pytest.approx([0.0, 0.0, -0.1, 0.1])


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_first_loss_is_ln_2(smoothing: float) -> None:
    """Policy = reference: ln 2 for every pair, whatever beta and label smoothing."""
    same = [-123.25, -7.5, -900.125, -33.0]
    loss = Loss(SigmoidLossConfig(beta=0.7, label_smoothing=smoothing))
    values, _ = loss.value_and_slope(pair_logps(same, same))
    assert values.tolist() == pytest.approx([math.log(2)] * 2, rel=1e-15)
    assert loss.first == math.log(2)


@pytest.mark.parametrize("knobs", [SigmoidLossConfig(beta=0.3, label_smoothing=0.2), SftLossConfig()])
def test_slope_is_the_derivative_of_the_sum(knobs: SigmoidLossConfig | SftLossConfig) -> None:
    """Per response, by central differences; a response that stands in two pairs collects both."""
    policy, reference = [-10.0, -12.0, -9.0, -30.0], [-11.0, -11.5, -9.5, -28.0]
    pairs = [(0, 1), (0, 2), (3, 1)]
    loss = Loss(knobs)
    _, slope = loss.value_and_slope(pair_logps(policy, reference, pairs))
    h = 1e-5
    for i in range(len(policy)):
        higher, lower = [[p + s * h * (j == i) for j, p in enumerate(policy)] for s in (1, -1)]
        values = [loss.value_and_slope(pair_logps(p, reference, pairs))[0].sum().item() for p in (higher, lower)]
        assert slope[i].item() == pytest.approx((values[0] - values[1]) / (2 * h), abs=1e-8)


def test_sft_is_the_mean_over_answer_tokens() -> None:
    """Its units are tokens: the sum over responses, divided by the tokens of the global batch."""
    loss = Loss(SftLossConfig())
    values, slope = loss.value_and_slope(pair_logps([-6.0, -9.0], [0, 0]))
    assert values.tolist() == [6.0, 9.0]
    assert slope.tolist() == [-1.0, -1.0]
    assert loss.denominator(n_pairs=1, n_response_tokens=30) == 30
    assert Loss(SigmoidLossConfig()).denominator(n_pairs=7, n_response_tokens=30) == 7
    assert loss.first is None


def test_the_gradient_does_not_reach_the_reference_and_keeps_no_graph() -> None:
    logps = pair_logps([-1.0, -2.0], [-1.5, -2.5])
    logps.policy.requires_grad_()
    logps.reference.requires_grad_()
    for name, kind in LOSSES.items():
        knobs = SigmoidLossConfig() if kind.needs_reference else SftLossConfig()
        values, slope = Loss(knobs).value_and_slope(logps)
        assert not values.requires_grad and not slope.requires_grad, name
    assert logps.reference.grad is None


# Metrics


def group(*lengths: int, prompt: int = 3) -> PromptGroup:
    ids = [[1] * length for length in lengths]
    pairs = [(0, i) for i in range(1, len(lengths))]
    names = [f"id{i}" for _, i in pairs]
    return PromptGroup(prompt_ids=[1] * prompt, responses=ids, pairs=pairs, pair_ids=names, sources=[])


def measured(loss: Loss, *parts: tuple[list[PromptGroup], list[float], list[float]]) -> StepStats:
    """StepStats after micro-batches of (groups, policy, reference log-probabilities)."""
    stats = StepStats()
    for groups, policy, reference in parts:
        batch = collate(groups, "packed")
        logps = PairLogps(
            policy=torch.tensor(policy, dtype=DOUBLE),
            reference=torch.tensor(reference, dtype=DOUBLE),
            tokens=batch.tokens,
            pairs=batch.pairs,
            real=batch.n_pairs > 0,
        )
        values, _ = loss.value_and_slope(logps)
        stats.add(batch, logps, values, loss)
    return stats


def test_metrics_are_means_over_pairs_whatever_the_micro_batches() -> None:
    """Three pairs in one batch and one in another: every pair weighs the same, none weighs by tokens."""
    loss = Loss(SigmoidLossConfig(beta=0.5))
    first = ([group(5, 2), group(1, 40), group(3, 3)], [-3, -4, -5, -6, -9, -8], [-4, -4, -5, -4, -7, -8])
    second = ([group(100, 7)], [-50.0, -2.0], [-48.0, -1.0])
    record = measured(loss, first, second).record(loss)
    chosen, rejected = [0.5, 0.0, -1.0, -1.0], [0.0, -1.0, 0.0, -0.5]
    margins = [c - r for c, r in zip(chosen, rejected, strict=True)]
    assert record["rewards/chosen"] == pytest.approx(sum(chosen) / 4)
    assert record["rewards/rejected"] == pytest.approx(sum(rejected) / 4)
    assert record["rewards/margins"] == pytest.approx(sum(margins) / 4)
    assert record["rewards/accuracies"] == pytest.approx(2 / 4)
    assert record["logps/chosen"] == pytest.approx((-3 - 5 - 9 - 50) / 4)
    assert record["logps/rejected"] == pytest.approx((-4 - 6 - 8 - 2) / 4)
    assert record["loss"] == pytest.approx(sum(math.log1p(math.exp(-m)) for m in margins) / 4)


def test_uneven_batches_of_several_workers_add_up() -> None:
    """Sums of all workers give what one worker gives with all pairs; a mean of means would not."""
    loss = Loss(SigmoidLossConfig(beta=1.0))
    parts = [
        ([group(2, 2), group(2, 2)], [-1.0, -2.0, -3.0, -9.0], [-1.5, -1.0, -2.0, -8.0]),
        ([group(4, 4)], [-7.0, -3.0], [-1.0, -4.0]),
    ]
    together = measured(loss, *parts).record(loss)
    added = StepStats(sums=sum((measured(loss, part).sums for part in parts), torch.zeros(1, dtype=DOUBLE)))
    assert added.record(loss) == pytest.approx(together, rel=1e-14)
    means = [measured(loss, part).record(loss)["loss"] for part in parts]
    assert together["loss"] != pytest.approx(sum(means) / 2, rel=1e-3)


def test_ties_count_one_half() -> None:
    """Margins that differ by rounding only are no preference: before the first step the accuracy is 0.5, not luck."""
    margins = torch.tensor([0.0, TIE / 2, -TIE / 2, 2 * TIE, -2 * TIE, 1.0, -1.0])
    assert accuracies(margins).tolist() == [0.5, 0.5, 0.5, 1.0, 0.0, 1.0, 0.0]
    loss = Loss(SigmoidLossConfig(beta=0.1))
    record = measured(
        loss, ([group(2, 2), group(2, 2)], [-5.0, -5.0, -1.0, -2.0], [-5.0, -5.00001, -1.0, -2.0])
    ).record(loss)
    assert record["rewards/accuracies"] == 0.5


def test_fillers_count_nowhere() -> None:
    """A worker without pairs runs a real forward whose result enters neither loss, slope, metrics nor counts."""
    for knobs in (SigmoidLossConfig(beta=0.5), SftLossConfig()):
        loss = Loss(knobs)
        real = ([group(5, 2)], [-3.0, -4.0], [-4.0, -4.0])
        filler = ([], [-777.0], [-1.0])
        assert measured(loss, real, filler).sums.tolist() == measured(loss, real).sums.tolist()
        values, slope = loss.value_and_slope(
            PairLogps(
                policy=torch.tensor([-777.0]),
                reference=None,
                tokens=torch.ones(1),
                pairs=torch.zeros(0, 2, dtype=torch.long),
                real=False,
            )
        )
        assert len(values) == 0 and slope.tolist() == [0.0]


def test_counts_hold_no_padding() -> None:
    """Tokens: every prompt once and every response, in both layouts."""
    groups = [group(5, 2), group(1, 40, prompt=9)]
    loss = Loss(SigmoidLossConfig())
    for layout in ("packed", "padded"):
        batch = collate(groups, layout)
        zeros = torch.zeros(4)
        logps = PairLogps(policy=zeros, reference=zeros, tokens=batch.tokens, pairs=batch.pairs)
        stats = StepStats()
        stats.add(batch, logps, loss.value_and_slope(logps)[0], loss)
        assert stats.counts() == {"units": 2, "compared": 2, "pairs": 2, "tokens": 3 + 7 + 9 + 41}


def test_sft_reports_its_own_metrics_only() -> None:
    loss = Loss(SftLossConfig(answers="both"))
    record = measured(loss, ([group(5, 2)], [-3.0, -4.0], [-4.0, -4.0])).record(loss)
    assert record == pytest.approx({"loss": 7 / 7, "logps/chosen": -3.0, "logps/rejected": -4.0})


def test_what_is_not_a_number_is_never_logged_as_one() -> None:
    loss = Loss(SigmoidLossConfig())
    assert math.isnan(StepStats().record(loss)["loss"]), "no step was applied: 0.0 would look perfect"
    record = measured(loss, ([group(5, 2), group(4, 3)], [math.nan, -1.0, -3.0, -2.0], [-4.0] * 4)).record(loss)
    without = ("logps/rejected", "rewards/rejected")  # these answers are finite
    assert {name for name, value in record.items() if not math.isnan(value)} == set(without)


def test_rewards_pick_the_sides_of_each_pair() -> None:
    logps = pair_logps([-1.0, -2.0, -3.0], [-2.0, -2.0, -2.0], pairs=[(2, 0), (1, 2)])
    chosen, rejected = rewards(logps, 2.0)
    both: list[Tensor] = [chosen, rejected]
    assert [side.tolist() for side in both] == [[-2.0, 0.0], [2.0, -2.0]]
