"""What losses ask of the data: margins, answers to other prompts, chosen answers alone."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dpo.build_groups import Sides, build_groups
from dpo.config.compose import compose_run
from dpo.data.collate import collate
from dpo.data.pair import TokenizedPair
from dpo.data.store.pairs import PairList
from dpo.errors import DataError
from dpo.losses.loss import Loss

pytestmark = pytest.mark.unit


def pair(number: int, prompt: int, **more: Any) -> TokenizedPair:
    ids = [10 * number, 10 * number + 1]
    return TokenizedPair(
        prompt_ids=[prompt] * 3,
        chosen_ids=ids[:1],
        rejected_ids=ids,
        source=f"f.jsonl:{number}",
        id=f"id{number}",
        **more,
    )


def built(loss: str, pairs: list[TokenizedPair], held_out: list[TokenizedPair]) -> Sides:
    config = compose_run([f"loss={loss}", "data.path=f.jsonl", "model=tiny"], 1).config
    sets: Any = SimpleNamespace(train=PairList(pairs), held_out=PairList(held_out), passes=[np.arange(len(pairs))])
    return build_groups(config, sets, Loss(config.loss))


def test_margins_reach_the_loss_pair_by_pair() -> None:
    pairs = [pair(1, 7, margin=0.5), pair(2, 8, margin=2.0), pair(3, 7, margin=1.5)]
    groups = built("odpo", pairs, []).train
    assert [group.margins for group in groups] == [[0.5, 1.5], [2.0]]
    margins = collate([*groups][::-1], "packed").margins
    assert margins is not None and margins.tolist() == [2.0, 0.5, 1.5]


def test_a_row_without_margin_is_named() -> None:
    pairs = [pair(1, 7, margin=0.5), pair(2, 8), pair(3, 9, margin=0.0)]
    with pytest.raises(DataError, match=r"f\.jsonl:2 has no `margin`.*loss=sigmoid"):
        built("odpo", pairs, [])
    assert built("sigmoid", pairs, []).train[1].margins is None
    assert collate([*built("sigmoid", pairs, []).train], "packed").margins is None


def test_answers_to_other_prompts_are_there_when_a_loss_asks() -> None:
    pairs, held_out = [pair(n, n) for n in range(1, 5)], [pair(n, n, reference=(-1.0, -2.0)) for n in range(5, 7)]
    groups = built("kto", pairs, held_out)
    assert [group.responses for group in groups.train_mismatched or []] == [
        [[20], [20, 21]],
        [[30], [30, 31]],
        [[40], [40, 41]],
        [[10], [10, 11]],
    ]
    assert [len(section) for section in groups.sections] == [4, 2, 4, 2]
    without = built("sigmoid", pairs, held_out)
    assert without.train_mismatched is without.held_out_mismatched is None
    assert [len(section) for section in without.sections] == [4, 2]


def test_one_prompt_alone_has_no_other() -> None:
    with pytest.raises(DataError, match="every prompt is that of"):
        built("kto", [pair(1, 1), pair(2, 2)], [pair(3, 3)])


def test_a_mix_with_sft_computes_both_answers_and_sft_alone_one() -> None:
    pairs = [pair(1, 1), pair(2, 2)]
    assert [len(group.responses) for group in built("mix", pairs, []).train] == [2, 2]
    alone = built("sft", pairs, []).train
    assert [len(group.responses) for group in alone] == [1, 1]
    assert [group.counts.chosen_tokens for group in alone] == [1, 1]
    assert [group.counts.chosen_tokens for group in built("sigmoid", pairs, []).train] == [1, 1]
