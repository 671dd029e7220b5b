"""Workers that share rows (`zero.sequence_parallel`): the same numbers as one worker that computes them whole."""

import json
from pathlib import Path

import pytest
from test_numbers import assert_same_numbers

from launch import SMALL, TWENTY, Ended, launch, train, train_and_stop, worker

pytestmark = pytest.mark.run

SHARED = "zero.sequence_parallel=2"


def test_a_shared_row_scores_and_learns_the_same(tmp_path: Path) -> None:
    """Grouped-query attention with fewer key heads than workers, windows, learned positions, checkpointing, a worker
    without any scored position, a filler."""
    code, output = worker(2, "shared_rows.py", cwd=tmp_path)
    assert code == 0, output
    (line,) = [line for line in output.splitlines() if line.startswith("[{")]
    found = json.loads(line)
    assert len(found) == 10
    for case in found:
        rounding = 1e-2 if "bfloat16" in case["case"] else 1e-5
        assert case["logps"] < rounding, case
        assert case["gradient"] < rounding, case
        assert case["alignment"] < rounding, case
    assert [0, 13] in [case["scored"] for case in found]


def test_two_workers_on_one_row(one: Ended, tmp_path: Path) -> None:
    """ZeRO-3 with two rows per step, of 20 steps; losses, gradient norms, held-out numbers, order and counts."""
    found = train(2, *TWENTY, SHARED, "zero=zero3", "optim.micro_batch_pairs=8", "name=shared", cwd=tmp_path)
    assert_same_numbers(found, one)


@pytest.mark.slow
@pytest.mark.parametrize("zero", ["off", "zero2", "zero3"])
def test_lora_and_checkpointing(zero: str, tmp_path: Path) -> None:
    """The exchanges are repeated when activations are computed anew; the reference is the policy, adapter off."""
    lora = (*TWENTY, "adapter=lora", "optim.lr=1e-3", "reference=adapter_off")
    expected = train(1, *lora, "zero=off", "name=one", cwd=tmp_path)
    assert min(row["loss"] for row in expected.train) < 0.6
    settings = (f"zero={zero}", SHARED, "model.gradient_checkpointing=full", "optim.micro_batch_pairs=5")
    assert_same_numbers(train(2, *lora, *settings, "name=two", cwd=tmp_path), expected)


@pytest.mark.slow
@pytest.mark.parametrize("zero", ["off", "zero3"])
def test_two_groups_of_two_workers(zero: str, one: Ended, tmp_path: Path) -> None:
    """Rows spread over two groups of neighbours, state over all four workers."""
    settings = (f"zero={zero}", SHARED, "optim.micro_batch_pairs=3", "name=four")
    assert_same_numbers(train(4, *TWENTY, *settings, cwd=tmp_path), one)


@pytest.mark.slow
def test_begun_on_shared_rows_and_continued_on_whole_ones(tmp_path: Path) -> None:
    """Checkpoints and answers do not know that rows were shared."""
    settings = (*(text for text in TWENTY if text != "eval.samples=0"), "eval.samples=3", "eval.max_new_tokens=16")
    expected = train(1, *settings, "zero=off", "name=one", cwd=tmp_path)
    shared = ("zero=zero3", SHARED, "name=two")
    stopped = train_and_stop(2, *settings, *shared, cwd=tmp_path, after_step=3, how="file")
    assert stopped.status["state"] == "stopped", stopped.output
    before = (expected.folder / "samples.jsonl").read_text().splitlines()[:3]
    assert (stopped.folder / "samples.jsonl").read_text().splitlines() == before
    found = train(1, *settings, "zero=off", "name=two", cwd=tmp_path)
    assert found.status["state"] == "done"
    assert_same_numbers(found, expected)


LONG = (
    "output_dir=.",
    "model=tiny",
    "data.path=long.jsonl",
    "data.max_length=20000",
    "eval.fraction=0",
    "eval.samples=0",
    "track.wandb=off",
    "track.progress=false",
    "optim.lr=1e-4",
    "optim.global_batch_size=1",
    "optim.max_steps=2",
    "checkpoint.every=0",
)


@pytest.mark.slow
def test_a_pair_of_16k_tokens(tmp_path: Path) -> None:
    """Two steps of one long pair each, whole on one worker and shared by two."""
    words = [f"{i * 7919 % 10007} " for i in range(4000)]
    rows = [
        {"prompt": "".join(words[i:]), "chosen": "".join(words[:60]), "rejected": "".join(words[60:100])}
        for i in range(2)
    ]
    (tmp_path / "long.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    expected = train(1, *LONG, "zero=off", "name=one", cwd=tmp_path)
    found = train(2, *LONG, "zero=zero3", SHARED, "name=two", cwd=tmp_path)
    assert expected.train[0]["tokens"] >= 16_000
    assert expected.train[0]["loss"] == pytest.approx(0.6931472, abs=1e-6)
    for row, other in zip(found.train, expected.train, strict=True):
        assert row["loss"] == pytest.approx(other["loss"], abs=1e-5)
        for name in ("grad_norm", "logps/chosen", "logps/rejected"):
            assert row[name] == pytest.approx(other[name], rel=1e-4)
    assert abs(expected.train[1]["loss"] - expected.train[0]["loss"]) > 1e-4, "the first step changed nothing"


@pytest.mark.slow
def test_an_architecture_that_needs_padded_rows(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, BloomConfig

    base = tmp_path / "bloom"
    source = train(1, *SMALL, "optim.max_steps=1", "name=one", cwd=tmp_path).folder / "final"
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.save_pretrained(base)
    AutoModelForCausalLM.from_config(
        BloomConfig(vocab_size=len(tokenizer), hidden_size=32, n_layer=1, n_head=2)
    ).save_pretrained(base)
    ended = launch(2, *SMALL, "data=demo", f"model.path={base}", SHARED, "name=two", cwd=tmp_path)
    assert ended.code != 0
    (message,) = [line for line in ended.output.splitlines() if line.startswith("[dpo] error:")]
    assert "zero.sequence_parallel=2 needs layout=packed" in message and "Bloom" in message
