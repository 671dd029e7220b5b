"""Metrics that weigh by pairs, whatever the micro-batches and workers, and say nothing that a loss does not define."""

import math

import pytest
import torch
from loss_cases import DOUBLE, knobs_of

from dpo.config.losses import MixLossConfig, SftLossConfig, SigmoidLossConfig
from dpo.data.batch import PairLogps, PromptGroup
from dpo.data.collate import collate
from dpo.losses.loss import Loss
from dpo.losses.registry import LOSSES
from dpo.metrics import DRIFT, HISTOGRAM, LOGPS, QUANTILES, REWARDS, TIE, StepStats, accuracies

pytestmark = pytest.mark.unit


def group(*lengths: int, prompt: int = 3) -> PromptGroup:
    ids = [[1] * length for length in lengths]
    pairs = [(0, i) for i in range(1, len(lengths))]
    names = [f"id{i}" for _, i in pairs]
    return PromptGroup(prompt_ids=[1] * prompt, responses=ids, pairs=pairs, pair_ids=names, sources=[])


def measured(loss: Loss, *parts: tuple[list[PromptGroup], list[float], list[float]]) -> StepStats:
    """StepStats after micro-batches of (groups, policy, reference log-probabilities)."""
    stats = StepStats(loss)
    for groups, policy, reference in parts:
        batch = collate(groups, "packed")
        logps = PairLogps(
            policy=torch.tensor(policy, dtype=DOUBLE),
            reference=torch.tensor(reference, dtype=DOUBLE),
            tokens=batch.tokens,
            pairs=batch.pairs,
            real=batch.n_pairs > 0,
        )
        stats.add(batch.counts, logps, loss.values(logps))
    return stats


def test_metrics_are_means_over_pairs_whatever_the_micro_batches() -> None:
    """Three pairs in one batch and one in another: every pair weighs the same, none weighs by tokens."""
    loss = Loss(SigmoidLossConfig(beta=0.5))
    first = ([group(5, 2), group(1, 40), group(3, 3)], [-3, -4, -5, -6, -9, -8], [-4, -4, -5, -4, -7, -8])
    second = ([group(100, 7)], [-50.0, -2.0], [-48.0, -1.0])
    record = measured(loss, first, second).record()
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
    together = measured(loss, *parts).record()
    added = StepStats(loss, sums=sum((measured(loss, part).sums for part in parts), torch.zeros(1, dtype=DOUBLE)))
    found = added.record()
    assert found.pop(HISTOGRAM) == together.pop(HISTOGRAM)
    assert found == pytest.approx(together, rel=1e-14)
    means = [measured(loss, part).record()["loss"] for part in parts]
    assert together["loss"] != pytest.approx(sum(means) / 2, rel=1e-3)


def test_ties_count_one_half() -> None:
    """Margins that differ by rounding only are no preference: before the first step the accuracy is 0.5, not luck."""
    margins = torch.tensor([0.0, TIE / 2, -TIE / 2, 2 * TIE, -2 * TIE, 1.0, -1.0])
    assert accuracies(margins).tolist() == [0.5, 0.5, 0.5, 1.0, 0.0, 1.0, 0.0]
    loss = Loss(SigmoidLossConfig(beta=0.1))
    record = measured(
        loss, ([group(2, 2), group(2, 2)], [-5.0, -5.0, -1.0, -2.0], [-5.0, -5.00001, -1.0, -2.0])
    ).record()
    assert record["rewards/accuracies"] == 0.5


def test_fillers_count_nowhere() -> None:
    """A worker without pairs runs a real forward whose result enters neither metrics nor counts."""
    for knobs in (SigmoidLossConfig(beta=0.5), SftLossConfig()):
        loss = Loss(knobs)
        real = ([group(5, 2)], [-3.0, -4.0], [-4.0, -4.0])
        filler = ([], [-777.0], [-1.0])
        assert measured(loss, real, filler).sums.tolist() == measured(loss, real).sums.tolist()


def test_counts_hold_no_padding() -> None:
    """Tokens: every prompt once and every response, in both layouts."""
    groups = [group(5, 2), group(1, 40, prompt=9)]
    loss = Loss(SigmoidLossConfig())
    for layout in ("packed", "padded"):
        batch = collate(groups, layout)
        zeros = torch.zeros(4)
        logps = PairLogps(policy=zeros, reference=zeros, tokens=batch.tokens, pairs=batch.pairs)
        stats = StepStats(loss)
        stats.add(batch.counts, logps, loss.values(logps))
        assert stats.counts() == {
            "compared": 2,
            "chosen": 2,
            "rejected": 2,
            "pairs": 2,
            "tokens": 3 + 7 + 9 + 41,
        }


def test_sft_reports_its_own_metrics_only() -> None:
    loss = Loss(SftLossConfig(answers="both"))
    record = measured(loss, ([group(5, 2)], [-3.0, -4.0], [-4.0, -4.0])).record()
    assert record == pytest.approx({"loss": 7 / 7, "logps/chosen": -3.0, "logps/rejected": -4.0})


def test_what_is_not_a_number_is_never_logged_as_one() -> None:
    loss = Loss(SigmoidLossConfig())
    assert math.isnan(StepStats(loss).record()["loss"]), "no step was applied: 0.0 would look perfect"
    record = measured(loss, ([group(5, 2), group(4, 3)], [math.nan, -1.0, -3.0, -2.0], [-4.0] * 4)).record()
    without = ("logps/rejected", "rewards/rejected")  # these answers are finite
    assert record.pop(HISTOGRAM) == {"-27": 1}, "the one margin that is a number, -0.1"
    assert {name for name, value in record.items() if not math.isnan(value)} == {*without, *QUANTILES}


def test_a_mix_logs_every_term_without_its_weight() -> None:
    terms = [{"name": "sigmoid", "weight": 0.8}, {"name": "sft", "weight": 0.5}]
    mix, sigmoid, sft = Loss(MixLossConfig(terms=terms)), Loss(SigmoidLossConfig()), Loss(SftLossConfig())
    parts = [
        ([group(5, 2), group(4, 4)], [-3.0, -4.0, -9.0, -2.0], [-4.0] * 4),
        ([group(9, 3)], [-20.0, -5.0], [-19.0, -4.0]),
    ]
    record = measured(mix, *parts).record()
    assert record["loss/sigmoid"] == pytest.approx(measured(sigmoid, *parts).record()["loss"])
    assert record["loss/sft"] == pytest.approx(measured(sft, *parts).record()["loss"]) == pytest.approx(32 / 18)
    assert record["loss"] == pytest.approx(0.8 * record["loss/sigmoid"] + 0.5 * record["loss/sft"])
    assert "loss/sigmoid" not in measured(sigmoid, *parts).record(), "alone it is the loss"


def test_rewards_are_those_of_the_loss() -> None:
    """simpo's are mean log-probabilities, without a reference; DPO's are ratios."""
    part = ([group(4, 2)], [-8.0, -6.0], [-9.0, -6.5])
    simpo = measured(Loss(knobs_of("simpo", beta=2.0)), part).record()
    assert (simpo["rewards/chosen"], simpo["rewards/rejected"]) == (-4.0, -6.0)
    sigmoid = measured(Loss(SigmoidLossConfig(beta=0.5)), part).record()
    assert (sigmoid["rewards/chosen"], sigmoid["rewards/rejected"], sigmoid[DRIFT]) == (0.5, 0.25, 1.0)


def test_every_loss_says_what_it_defines() -> None:
    part = ([group(4, 2)], [-8.0, -6.0], [-9.0, -6.5])
    for name, kind in LOSSES.items():
        loss = Loss(kind.knobs())
        stats = StepStats(loss)
        batch = collate(part[0], "packed")
        logps = PairLogps(
            policy=torch.tensor(part[1]),
            reference=torch.tensor(part[2]),
            tokens=batch.tokens,
            pairs=batch.pairs,
            margins=torch.ones(1),
        )
        stats.add(batch.counts, logps, loss.values(logps, loss.shares([logps], learning=True)[0]))
        found = set(stats.record())
        assert set(LOGPS) <= found, name
        assert (set(REWARDS) <= found) is (name != "sft"), name
        assert (DRIFT in found) is kind.needs_reference, name
        assert ("rewards/baseline" in found) is (kind.baseline != "none"), name


def test_the_baseline_is_logged_as_a_reward() -> None:
    batch = collate([group(4, 2)], "packed")
    values, own = torch.tensor([-8.0, -6.0]), torch.tensor([-9.0, -6.5])
    logps = PairLogps(policy=values, reference=own, tokens=batch.tokens, pairs=batch.pairs, baseline=torch.tensor(3.0))
    kto, bco, dynamic = (Loss(knobs_of(name, beta=0.5)) for name in ("kto", "bco", "beta_dpo"))
    for loss, expected in ((kto, 1.5), (bco, 0.5 * (1 + 0.5) / 2), (dynamic, 0.5 * 0.1 * (1 - 0.5))):
        stats = StepStats(loss)
        stats.add(batch.counts, logps, loss.values(logps, loss.shares([logps], learning=True)[0]))
        assert stats.record()["rewards/baseline"] == pytest.approx(expected)
