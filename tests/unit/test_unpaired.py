"""Rows with one answer and a label: which losses take them, and which of them are learnt."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest

from dpo.build_groups import build_groups
from dpo.config.compose import compose_run
from dpo.config.schema import RunConfig
from dpo.data.pair import TokenizedPair
from dpo.data.store.pairs import PairList
from dpo.errors import DataError
from dpo.losses.loss import Loss

pytestmark = pytest.mark.unit


def config(*overrides: str) -> RunConfig:
    return compose_run(["model=tiny", "data.path=x.jsonl", *overrides], 1).config


def single(number: int, *, good: bool) -> TokenizedPair:
    ids = [[5, number], []] if good else [[], [5, number]]
    return TokenizedPair(
        prompt_ids=[1, 2], chosen_ids=ids[0], rejected_ids=ids[1], source=f"a.jsonl:{number}", id=str(number)
    )


def sets(*pairs: TokenizedPair) -> SimpleNamespace:
    return SimpleNamespace(train=PairList(pairs), held_out=PairList(), passes=[np.arange(len(pairs))])


PAIR = TokenizedPair(prompt_ids=[1, 2], chosen_ids=[7], rejected_ids=[8], source="a.jsonl:9", id="9")
MIXED = sets(single(3, good=True), single(4, good=False), PAIR)


def test_good_answers_are_learnt_and_bad_ones_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    settings = config("loss=sft")
    groups = build_groups(settings, MIXED, Loss(settings.loss))
    assert [group.responses for group in groups.train] == [[[5, 3]], [[7]]]
    assert "unpaired rows: 1 good answers are learnt, 1 bad ones left out" in caplog.text


@pytest.mark.parametrize("overrides", [["loss=sigmoid"], ["loss=sft", "loss.answers=both"]])
def test_a_loss_that_takes_both_answers_refuses_them(overrides: list[str]) -> None:
    settings = config(*overrides)
    with pytest.raises(DataError, match=r"a\.jsonl:3 and 1 more rows hold one answer.*use loss=sft"):
        build_groups(settings, MIXED, Loss(settings.loss))


def test_nothing_good_to_learn_is_an_error() -> None:
    settings = config("loss=sft")
    with pytest.raises(DataError, match="all labels are false"):
        build_groups(settings, sets(single(3, good=False)), Loss(settings.loss))
