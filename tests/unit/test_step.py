"""A step over workers and micro-batches: a loss whose scope is the step has one value and one gradient, however cut.

The model is a table of log-probabilities, one per response, and the workers are threads.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from loss_cases import CHOSEN, LENGTHS_CHOSEN, LENGTHS_REJECTED, MIX, REF_CHOSEN, REF_REJECTED, REJECTED, knobs_of
from one_worker import world
from thread_world import together
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2Config

from dpo.config.losses import AotLossConfig, KtoLossConfig, LossConfig, MixLossConfig
from dpo.data.batch import Batch, Counts, PromptGroup, total
from dpo.data.collate import collate
from dpo.losses.loss import Loss
from dpo.losses.registry import LOSSES
from dpo.metrics import HISTOGRAM, StepStats
from dpo.model import attention
from dpo.model.scorer import Scorer
from dpo.preempt import StopRequest
from dpo.progressed import Progressed
from dpo.step import Work, divergence, look, step_shares, train_step
from dpo.trainer import Trainer

pytestmark = pytest.mark.unit

TABLE = torch.tensor([CHOSEN, REJECTED]).T  # [pair, side]
REFERENCE = torch.tensor([REF_CHOSEN, REF_REJECTED]).T
MISMATCHED = torch.tensor([[-7.0, -9.0], [-20.0, -3.5], [-4.0, -6.0], [-11.0, -2.0]])
SHIFT = torch.tensor([[2.0, 1.0], [0.5, 0.0], [-1.0, 3.0], [1.0, -0.5]])  # of MISMATCHED from its reference
LENGTHS = list(zip(LENGTHS_CHOSEN, LENGTHS_REJECTED, strict=True))
COUNTS = Counts(pairs=4, answers=8, response_tokens=110, chosen_tokens=58, tokens=122)
PAIRED = "pppp"
UNPAIRED = "gpbb"  # row 0 has a good answer alone, rows 2 and 3 a bad one


def group(number: int, rows: str = PAIRED) -> PromptGroup:
    sides = {"p": [0, 1], "g": [0], "b": [1]}[rows[number]]
    return PromptGroup(
        prompt_ids=[1] * 3,
        responses=[[1] * int(LENGTHS[number][side]) for side in sides],
        pairs=[{"p": (0, 1), "g": (0, None), "b": (None, 0)}[rows[number]]],
        pair_ids=[str(number)],
        sources=[""],
        datasets=["even" if number % 2 == 0 else "odd"],
        margins=[0.5 * number],
    )


def other(number: int) -> PromptGroup:
    """The prompt with the answers to another one."""
    return replace(group(number), pairs=[])


def entries(batch: Batch, judged: Tensor, others: Tensor) -> Tensor:
    """[R] of a batch from tables [row, side]."""
    if not batch.n_pairs:
        return judged[0, :1] * 0 - 777
    numbers = [int(i) for i in batch.pair_ids]
    if not batch.rows:
        return others[numbers].flatten()
    there = [(n, side) for n, row in zip(numbers, batch.rows, strict=True) for side in (0, 1) if row[side] is not None]
    return torch.stack([judged[place] for place in there])


@dataclass(kw_only=True, slots=True)
class Table:
    """An engine, and the reference beside it."""

    weights: Tensor = field(default_factory=lambda: TABLE.clone().requires_grad_())
    lasts: list[bool] = field(default_factory=list)

    def forward(self, batch: Batch) -> Tensor:
        return entries(batch, self.weights, MISMATCHED)

    def backward(self, objective: Tensor, last: bool) -> None:
        objective.backward()
        self.lasts.append(last)

    def logps(self, batch: Batch) -> Tensor:
        return entries(batch, REFERENCE, MISMATCHED - SHIFT)


def computed(knobs: LossConfig, cut: list[list[list[int]]], rows: str = PAIRED) -> tuple[dict[str, float], Tensor]:
    """(record, gradient) of a step whose rows are cut into [worker][micro-batch]."""
    counts = total(group(number, rows).counts for number in range(4))

    def work(member: Any) -> tuple[Tensor, Tensor]:
        table, loss, mine = Table(), Loss(knobs), cut[member.rank]

        def batches() -> Iterator[tuple[Batch, bool]]:
            for i, row in enumerate(mine):
                yield collate([group(number, rows) for number in row], "packed"), i == len(mine) - 1

        def others() -> Iterator[Batch]:
            return (collate([other(number) for number in row], "packed") for row in mine)

        stats = train_step(
            table,  # type: ignore[arg-type]
            table,
            Work(batches=batches, n_batches=len(mine), mismatched=others, counts=counts, datasets=DATASETS),
            loss,
            member,
        )
        assert table.lasts == [False] * (len(mine) - 1) + [True]
        grad = table.weights.grad
        return stats.sums, torch.zeros_like(TABLE) if grad is None else grad

    found = together(len(cut), work)
    sums, gradient = (torch.stack([part[i] for part in found]).sum(0) for i in (0, 1))
    return StepStats(Loss(knobs), datasets=DATASETS, sums=sums).record(), gradient


DATASETS = ("even", "odd")
WHOLE = [[[0, 1, 2, 3]]]
CUTS = {
    "micro-batches": [[[0], [2, 3], [1]]],
    "workers": [[[3, 0]], [[1, 2]]],
    "both, and a filler": [[[0, 2], [1]], [[3], []]],
}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("name", [*LOSSES, "mix"])
def test_neither_workers_nor_micro_batches_change_a_loss(name: str, cut: list[list[list[int]]]) -> None:
    """Value, gradient and metrics of every loss, as when one worker computes all pairs at once."""
    knobs = MixLossConfig(terms=MIX) if name == "mix" else knobs_of(name)
    expected, expected_gradient = computed(knobs, WHOLE)
    record, gradient = computed(knobs, cut)
    assert record.pop(HISTOGRAM, None) == expected.pop(HISTOGRAM, None)
    assert record == pytest.approx(expected, rel=1e-6, abs=1e-9)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-9)
    assert expected_gradient.abs().max() > 0


UNPAIRED_MIX = MixLossConfig(terms=[{"name": "kto", "desirable_weight": 1.4}, {"name": "bco"}, {"name": "sft"}])


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("knobs", [knobs_of("kto", undesirable_weight=1.2), knobs_of("bco"), UNPAIRED_MIX], ids=repr)
def test_nor_with_unpaired_rows(knobs: LossConfig, cut: list[list[list[int]]]) -> None:
    expected, expected_gradient = computed(knobs, WHOLE, UNPAIRED)
    record, gradient = computed(knobs, cut, UNPAIRED)
    assert record.pop(HISTOGRAM) == expected.pop(HISTOGRAM)
    assert record == pytest.approx(expected, rel=1e-6, abs=1e-9)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-9)
    there = torch.tensor([[True, False], [True, True], [False, True], [False, True]])
    assert torch.equal(gradient != 0, there)
    accuracies = {name for name in record if name.startswith("rewards/accuracies")}
    assert accuracies == {"rewards/accuracies", "rewards/accuracies/odd"}, "the even rows hold no pair"


def test_unpaired_rows_by_their_formulas() -> None:
    """kto: the mean over all five answers, of which each weighs the same. bco: the sum over the four rows."""
    (x0, _), (x1, y1), (_, y2), (_, y3) = (TABLE - REFERENCE).tolist()
    z0 = SHIFT.mean()
    kto, _ = computed(knobs_of("kto", beta=0.5, desirable_weight=1.4, undesirable_weight=0.7), WHOLE, UNPAIRED)
    good, bad = torch.tensor([x0, x1]), torch.tensor([y1, y2, y3])
    values = [*1.4 * torch.sigmoid(0.5 * (z0 - good)), *0.7 * torch.sigmoid(0.5 * (bad - z0))]
    assert kto["loss"] == pytest.approx(sum(values).item() / 5, rel=1e-6)  # type: ignore[union-attr]
    assert kto["rewards/chosen"] == pytest.approx(0.5 * good.mean().item())
    assert kto["rewards/rejected"] == pytest.approx(0.5 * bad.mean().item())
    assert kto["rewards/margins"] == kto["rewards/margins/odd"] == pytest.approx(0.5 * (x1 - y1))
    assert kto["rewards/rejected/even"] == pytest.approx(0.5 * y2)
    assert kto["kl/chosen"] == pytest.approx((x0 + x1) / 2)
    bco, _ = computed(knobs_of("bco", beta=0.5), WHOLE, UNPAIRED)
    delta = 0.5 * sum((x0, x1, y1, y2, y3)) / 5
    terms = [*-F.logsigmoid(0.5 * good - delta), *-F.logsigmoid(delta - 0.5 * bad)]
    assert bco["loss"] == pytest.approx(sum(terms).item() / 4, rel=1e-6)  # type: ignore[union-attr]
    assert bco["rewards/baseline"] == pytest.approx(delta)


def test_ktos_baseline_is_the_mean_over_all_workers() -> None:
    record, _ = computed(KtoLossConfig(beta=0.5), CUTS["both, and a filler"])
    assert record["rewards/baseline"] == pytest.approx(0.5 * SHIFT.mean().item())


@pytest.mark.parametrize(("sign", "expected"), [(1.0, SHIFT.mean().item()), (-1.0, 0.0)])
def test_a_divergence_is_never_negative(sign: float, expected: float) -> None:
    class Mirrored(Table):
        def logps(self, batch: Batch) -> Tensor:
            return MISMATCHED.flatten() - sign * SHIFT.flatten()

    table = Mirrored()
    batch = collate([other(number) for number in range(4)], "packed")
    assert divergence(table, table, [batch], world()).item() == pytest.approx(expected)  # type: ignore[arg-type]


def test_a_loss_of_pairs_asks_nobody() -> None:
    assert step_shares([], Loss(knobs_of("sigmoid")), None, learning=True) is None  # type: ignore[arg-type]


def test_both_passes_meet_the_same_dropout() -> None:
    """Else the slopes would belong to other log-probabilities. GPT-2 brings dropout of 0.1 in three places."""
    attention.register()
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=97, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
    scorer = Scorer(AutoModelForCausalLM.from_config(config), "packed").train()
    trainer = object.__new__(Trainer)
    trainer.seed, trainer.world, trainer.warm = 7, world(), False
    trainer.stop, trainer.done = StopRequest(), Progressed()
    passes: list[list[Tensor]] = []

    class Seen(Table):
        def forward(self, batch: Batch) -> Tensor:
            passes[-1].append(scorer(batch))
            return passes[-1][-1]

        def logps(self, batch: Batch) -> Tensor:
            return -batch.tokens

    def batches(step: int) -> Iterator[tuple[Batch, bool]]:
        passes.append([])
        return trainer._on_device([collate([group(number)], "packed") for number in range(3)], step)

    engine, loss = Seen(), Loss(AotLossConfig())
    for step in (4, 5):
        work = Work(batches=lambda step=step: batches(step), n_batches=3, mismatched=list, counts=COUNTS)
        train_step(engine, engine, work, loss, trainer.world)  # type: ignore[arg-type]
    first, again, other, _ = [torch.cat(found) for found in passes]
    assert torch.equal(first, again)
    assert not torch.equal(first, other), "another step has other dropout"
    assert not first.requires_grad and again.requires_grad


def test_a_look_keeps_no_graph() -> None:
    table = Table()
    found = look(table, table, collate([group(0)], "packed"))  # type: ignore[arg-type]
    assert not found.policy.requires_grad and found.reference is not None and found.margins is not None
