"""The longer answer of each pair, cut to the length of the shorter, which tells what a tail is worth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo.data.groups import group_pairs
from dpo.data.heads import Heads
from dpo.data.pair import Spans, TokenizedPair
from dpo.data.store.columns import KEYS
from dpo.reference.responses import Responses

pytestmark = pytest.mark.unit


def pair(prompt: list[int], chosen: list[int], rejected: list[int], context: Spans = ()) -> TokenizedPair:
    return TokenizedPair(
        prompt_ids=prompt,
        chosen_ids=chosen,
        rejected_ids=rejected,
        chosen_context=context,
        source="f:1",
        id=f"{prompt}{chosen}{rejected}",
    )


PAIRS = [pair([1], [5, 6, 7], [8]), pair([2], [5], [6, 7, 8]), pair([1], [8, 9], [5, 6]), pair([1], [5, 6, 7], [4, 4])]


def test_heads_are_as_long_as_the_shorter_answer() -> None:
    """Of pairs in groups, in the order of the groups; where both are as long there is none."""
    heads = Heads(group_pairs(PAIRS, most=4))
    assert [group.responses for group in heads] == [[[5]], [], [[5, 6]], [[6]]]
    assert [group.prompt_ids for group in heads] == [[1], [1], [1], [2]]


def test_what_is_context_is_not_counted() -> None:
    """Scored are 9, 4, 3, 2: as many as the other answer has."""
    answers = pair([1], [9, 8, 8, 7, 4, 3, 2, 1], [5] * 4, ((1, 4),))
    (head,) = Heads(group_pairs([answers]))
    assert [head.responses[0][i] for i in head.scored(0)] == [9, 4, 3, 2]
    (other,) = Heads(group_pairs([pair([1], [9, 8, 8, 8, 8], [5, 6], ((1, 5),))]))
    assert (other.responses, other.contexts) == ([[5]], [()]), "the rejected answer has more scored tokens"


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(0, 1)), min_size=1, max_size=12))
def test_values_of_heads_become_those_of_tails(sizes: list[tuple[int, int, int]]) -> None:
    """Every token is worth another number: a tail's value is that of the tokens behind the head, as the step sums."""
    pairs = [pair([prompt], [*range(10, 10 + a)], [*range(20, 20 + b)]) for a, b, prompt in sizes]
    groups = group_pairs(pairs, most=3)
    groups.tailed = True
    heads = Heads(groups)
    responses = Responses([groups, heads])
    values = [-float(sum(responses.load([place]).group.responses[0])) for place in range(len(responses))]
    responses.assign(np.array(values, np.float32))
    heads.give_tails()
    for group in groups:
        assert group.tail_reference == [-sum(group.responses[r][i] for i in tokens) for r, tokens in group.tails]


def test_equal_keys_are_equal_heads() -> None:
    groups = group_pairs([*PAIRS, pair([1], [5, 6, 7], [9]), pair([1], [9, 9], [5, 6, 7])])
    keys = Heads(groups).pairs.column(KEYS)[:, 0].tolist()
    assert keys[0] == keys[4] and keys[3] == keys[5]
    assert len({*keys}) == len(keys) - 2
    assert not {*keys} & {*groups.pairs.column(KEYS).reshape(-1).tolist()}
