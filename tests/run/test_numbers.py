"""Workers, ZeRO stage, micro-batches and layout change where numbers are computed, never the numbers."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from launch import SMALL, TWENTY, Ended, train

pytestmark = pytest.mark.run

LOSS, METRICS = 1e-5, 1e-4
NAMES = ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies")
SUMS = ("logps/chosen", "logps/rejected", "grad_norm", "learning_rate")  # of any size: relative


def assert_same_numbers(found: Ended, expected: Ended) -> None:
    assert [row["batch"] for row in found.train] == [row["batch"] for row in expected.train]
    assert [(row["step"], row["split"]) for row in found.rows] == [(row["step"], row["split"]) for row in expected.rows]
    for row, other in zip(found.rows, expected.rows, strict=True):
        where = f"{other['split']} step {other['step']}"
        assert row["loss"] == pytest.approx(other["loss"], abs=LOSS, rel=0), where
        assert [row[n] for n in NAMES] == pytest.approx([other[n] for n in NAMES], abs=METRICS, rel=0), where
        sums = [name for name in SUMS if name in other]
        assert [row[n] for n in sums] == pytest.approx([other[n] for n in sums], rel=METRICS), where
        for name in ("pairs", "tokens", "epoch"):
            assert row.get(name) == other.get(name), where


def test_the_run_itself(one: Ended) -> None:
    """It begins at ln 2, learns, and its last batch of the epoch is smaller."""
    assert len(one.train) == 20
    assert one.train[0]["loss"] == pytest.approx(0.6931472, abs=1e-6)
    assert min(row["loss"] for row in one.train) < 0.5
    pairs = [0, *(row["pairs"] for row in one.train)]
    assert [after - before for before, after in pairwise(pairs)] == [16] * 18 + [12, 16]
    assert one.train[18]["epoch"] == 1.0
    assert len({row["batch"] for row in one.train}) == 20
    assert one.held_out[0]["rewards/accuracies"] == 0.5  # policy = reference: all ties
    assert one.held_out[-1]["rewards/accuracies"] > 0.7
    assert one.status["state"] == "done"


def test_zero3_on_two_workers(one: Ended, two: Ended) -> None:
    """The default of a job of several workers, here with micro-batches of 2 pairs."""
    assert_same_numbers(two, one)


# In `make test`: every stage, both layouts and three sizes of micro-batch once. The rest of the table is slow.
QUICK = [(2, "zero2", "packed", 1), (2, "off", "padded", 8)]
DONE = [(2, "zero3", "packed", 2)]
# `one` and `two` look their reference up. Those that compute it in every step must find the same numbers.
EVERY_STEP = {(2, "zero2", "packed", 1), (1, "off", "packed", 2), (2, "zero3", "packed", 8), (2, "off", "packed", 1)}
TABLE = [(n, zero, "packed", pairs) for n in (1, 2) for zero in ("off", "zero2", "zero3") for pairs in (1, 2, 8)]
MORE = [(2, "zero1", "packed", 2), (1, "off", "padded", 2), (1, "zero3", "padded", 8), (2, "zero3", "padded", 2)]
REST = [case for case in TABLE + MORE if case not in QUICK + DONE]


@pytest.mark.parametrize(
    ("n", "zero", "layout", "pairs"), [*QUICK, *(pytest.param(*c, marks=pytest.mark.slow) for c in REST)]
)
def test_same_numbers(n: int, zero: str, layout: str, pairs: int, one: Ended, tmp_path: Path) -> None:
    kind = "sharded" if (n, zero, layout, pairs) in EVERY_STEP else "cached"
    settings = (
        f"zero={zero}",
        f"layout={layout}",
        f"optim.micro_batch_pairs={pairs}",
        f"reference={kind}",
        "name=other",
    )
    assert_same_numbers(train(n, *TWENTY, *settings, cwd=tmp_path), one)


@pytest.mark.slow
@pytest.mark.parametrize("zero", ["off", "zero2", "zero3"])
@pytest.mark.parametrize("checkpointing", ["none", "full", "selective"])
def test_same_numbers_with_lora(zero: str, checkpointing: str, tmp_path: Path) -> None:
    """Only the adapter learns. The reference is the policy with its adapter off, or the base model's kept values."""
    lora = (*TWENTY, "adapter=lora", "optim.lr=1e-3", f"model.gradient_checkpointing={checkpointing}")
    expected = train(1, *lora, "zero=off", "reference=adapter_off", "name=one", cwd=tmp_path)
    assert min(row["loss"] for row in expected.train) < 0.6
    assert_same_numbers(
        train(2, *lora, f"zero={zero}", "optim.micro_batch_pairs=3", "name=two", cwd=tmp_path), expected
    )


@pytest.mark.slow
def test_same_numbers_with_sft_and_more_workers_than_pairs(tmp_path: Path) -> None:
    """The mean per answer token of the global batch; a last batch of one pair leaves a worker without any."""
    sft = (*SMALL, "loss=sft", "optim.max_steps=8", "data.limit=49", "checkpoint.every=0")
    sft = tuple(text for text in sft if not text.startswith("loss.beta"))
    one = train(1, *sft, "zero=off", "name=one", cwd=tmp_path)
    two = train(2, *sft, "zero=zero3", "name=two", cwd=tmp_path)
    assert [row["pairs"] for row in one.train] == [16, 32, 48, 49]
    assert [row["batch"] for row in two.train] == [row["batch"] for row in one.train]
    for name in ("loss", "grad_norm"):
        assert [row[name] for row in two.rows if name in row] == pytest.approx(
            [row[name] for row in one.rows if name in row], abs=LOSS, rel=METRICS
        )


def ranked_pairs(file: Path) -> None:
    """Twelve prompts with four ranked answers each that begin alike: six pairs to a prompt."""
    answers = ["the answer is blue, I am sure", "the answer is green", "the answer", "the answer is a long story"]
    rows = [
        {"prompt": f"Which colour has number {i}?", "chosen": answers[a], "rejected": answers[b]}
        for i in range(12)
        for a in range(4)
        for b in range(a + 1, 4)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_same_numbers_with_ranked_answers(tmp_path: Path) -> None:
    """All pairs of a prompt in one group, or in parts of one where rows are short; in either layout."""
    ranked_pairs(tmp_path / "ranked.jsonl")
    settings = [text for text in SMALL if not text.startswith("data.demo")]
    run = (*settings, "data.path=ranked.jsonl", "model=tiny", "optim.epochs=2", "checkpoint.every=0", "zero=off")
    one = train(1, *run, "name=one", cwd=tmp_path)
    assert one.train[-1]["loss"] < one.train[0]["loss"] - 0.01
    # Six pairs to a group: a step of 16 ends with the group that reaches it.
    assert {after["pairs"] - before["pairs"] for before, after in pairwise(one.train)} <= {18, 12, 6}
    shorter = train(1, *run, "layout=padded", "optim.micro_batch_tokens=200", "name=parts", cwd=tmp_path)
    assert_same_numbers(shorter, one)
