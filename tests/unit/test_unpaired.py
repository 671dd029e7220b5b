"""Rows with one answer and a label: which losses take them, and which of them are learnt."""

import logging
from pathlib import Path
from typing import Any

import pytest
from data_prepared import prepared, write

from dpo.build_groups import build_groups
from dpo.config.compose import compose_run
from dpo.config.losses import MixLossConfig
from dpo.config.schema import DataConfig, RunConfig, SourceConfig
from dpo.data.collate import collate
from dpo.data.group import split_group
from dpo.data.sets import DataSets
from dpo.errors import DataError
from dpo.losses.loss import Loss

pytestmark = pytest.mark.unit

PAIR = {"prompt": "Which day?", "chosen": "It is Monday.", "rejected": "A day."}


def config(*overrides: str) -> RunConfig:
    return compose_run(["model=tiny", "data.path=x.jsonl", *overrides], 1).config


def single(number: int, *, good: bool) -> dict[str, Any]:
    return {"prompt": f"Say {number}.", "completion": f"It is {number}.", "label": good}


def sets(folder: Path, *rows: dict[str, Any]) -> DataSets:
    """These rows, and one pair from a file of its own."""
    sources = [
        SourceConfig(path=write(folder / "single.jsonl", list(rows))),
        SourceConfig(path=write(folder / "pairs.jsonl", [PAIR])),
    ]
    return prepared(DataConfig(sources=sources), 0.0, folder / "cache")


def test_good_answers_are_learnt_and_bad_ones_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    found = sets(tmp_path, single(3, good=True), single(4, good=False))
    settings = config("loss=sft")
    groups = build_groups(settings, found, Loss(settings.loss))
    assert [group.responses for group in groups.train] == [[found.train[0].chosen_ids], [found.train[2].chosen_ids]]
    assert "unpaired rows: 1 good answers are learnt, 1 bad ones left out" in caplog.text


@pytest.mark.parametrize("overrides", [["loss=sigmoid"], ["loss=sft", "loss.answers=both"]])
def test_a_loss_that_takes_both_answers_refuses_them(overrides: list[str], tmp_path: Path) -> None:
    settings = config(*overrides)
    with pytest.raises(DataError, match=r"single\.jsonl:1 and 1 more rows hold one answer.*use loss=kto or loss=bco"):
        build_groups(settings, sets(tmp_path, single(3, good=True), single(4, good=False)), Loss(settings.loss))


def test_nothing_good_to_learn_is_an_error(tmp_path: Path) -> None:
    settings = config("loss=sft")
    bad = DataConfig(path=write(tmp_path / "single.jsonl", [single(3, good=False)]))
    with pytest.raises(DataError, match="all labels are false"):
        build_groups(settings, prepared(bad, 0.0, tmp_path / "cache"), Loss(settings.loss))


@pytest.mark.parametrize("loss", ["kto", "bco"])
def test_losses_of_single_answers_learn_good_and_bad_ones(loss: str, tmp_path: Path) -> None:
    """Beside the pair; an answer that a row lacks is none."""
    found = sets(tmp_path, single(3, good=True), single(4, good=False))
    settings = config(f"loss={loss}")
    sides = build_groups(settings, found, Loss(settings.loss))
    assert [group.pairs for group in sides.train] == [[(0, None)], [(None, 0)], [(0, 1)]]
    assert [group.counts.answers for group in sides.train] == [1, 1, 2]
    assert [group.datasets for group in sides.train] == [["single"], ["single"], ["pairs"]]
    batch = collate([*sides.train], "packed")
    assert batch.rows == [(0, None), (None, 1), (2, 3)]
    assert (batch.pairs.tolist(), batch.desirable.tolist(), batch.undesirable.tolist()) == ([[2, 3]], [0], [1])
    assert batch.datasets == ["pairs", "single", "single"]
    answers = [found.train[i] for i in range(3)]
    if loss == "kto":
        assert sides.train_mismatched is not None
        assert [group.responses for group in sides.train_mismatched] == [
            [answers[1].rejected_ids],
            [answers[2].chosen_ids, answers[2].rejected_ids],
            [answers[0].chosen_ids],
        ]


def test_answers_to_one_prompt_share_a_group_whatever_their_labels(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "completion": f"It is {n}.", "label": n == 1} for n in range(3)]
    settings = config("loss=bco")
    data = DataConfig(path=write(tmp_path / "single.jsonl", rows))
    (group,) = build_groups(settings, prepared(data, 0.0, tmp_path / "cache"), Loss(settings.loss)).train
    assert group.pairs == [(None, 0), (1, None), (None, 2)]
    parts = list(split_group(group, lambda part: part.n_pairs < 2))
    assert [part.pairs for part in parts] == [[(None, 0)], [(0, None)], [(None, 0)]]
    assert [part.responses[0] for part in parts] == group.responses


def test_a_mix_takes_them_when_all_its_terms_do() -> None:
    def mix(*terms: dict[str, Any]) -> bool:
        return Loss(MixLossConfig(terms=list(terms))).takes_unpaired

    assert mix({"name": "kto"}, {"name": "sft"}, {"name": "bco"})
    assert not mix({"name": "kto"}, {"name": "sigmoid"})
    assert not mix({"name": "kto"}, {"name": "sft", "answers": "both"})


def test_the_weights_that_ktos_authors_advise(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of 6 good and 2 bad answers: undesirable_weight between 6 / (4/3 * 2) and 6 / 2."""
    data = DataConfig(path=write(tmp_path / "single.jsonl", [single(n, good=n < 6) for n in range(8)]))
    found = prepared(data, 0.0, tmp_path / "cache")
    for overrides, told in (
        ([], "undesirable_weight=2.25 to 3"),
        (["loss.undesirable_weight=9"], "desirable_weight=3 to 4"),
        (["loss.undesirable_weight=2.5"], ""),
    ):
        caplog.clear()
        settings = config("loss=kto", *overrides)
        build_groups(settings, found, Loss(settings.loss))
        assert [told in message for message in caplog.messages if "authors advise" in message] == (
            [True] if told else []
        )


def test_the_best_checkpoint_by_pairs_needs_held_out_pairs(tmp_path: Path) -> None:
    held = write(tmp_path / "held.jsonl", [single(3, good=True)])
    data = DataConfig(path=write(tmp_path / "pairs.jsonl", [PAIR]), eval_path=held)
    settings = config("loss=bco", "checkpoint.best=rewards/accuracies")
    with pytest.raises(DataError, match=r"no held-out row has two: checkpoint\.best=loss"):
        build_groups(settings, prepared(data, 0.0, tmp_path / "cache"), Loss(settings.loss))
