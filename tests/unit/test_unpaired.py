"""Rows with one answer and a label: which losses take them, and which of them are learnt."""

import logging
from pathlib import Path
from typing import Any

import pytest
from data_prepared import prepared, write

from dpo.build_data import build_groups
from dpo.config.compose import compose_run
from dpo.config.schema import DataConfig, RunConfig, SourceConfig
from dpo.data.sets import DataSets
from dpo.errors import DataError
from dpo.loss import Loss

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
    with pytest.raises(DataError, match=r"single\.jsonl:1 and 1 more rows hold one answer.*use loss=sft"):
        build_groups(settings, sets(tmp_path, single(3, good=True), single(4, good=False)), Loss(settings.loss))


def test_nothing_good_to_learn_is_an_error(tmp_path: Path) -> None:
    settings = config("loss=sft")
    bad = DataConfig(path=write(tmp_path / "single.jsonl", [single(3, good=False)]))
    with pytest.raises(DataError, match="all labels are false"):
        build_groups(settings, prepared(bad, 0.0, tmp_path / "cache"), Loss(settings.loss))
