"""Prompts with answers to other prompts, whatever the batch: fixed partners, no own answers, nothing too long."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo.data.groups import group_pairs
from dpo.data.mismatched import mismatched
from dpo.data.pair import Spans, TokenizedPair
from dpo.data.store.columns import KEYS
from dpo.errors import DataError

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


def test_each_prompt_gets_the_answers_of_the_next_other_prompt() -> None:
    """Pairs of one prompt that stand behind each other have the same partner; behind the last comes the first."""
    pairs = [pair([1, 2], [10], [11]), pair([1, 2], [12], [13]), pair([3], [14], [15]), pair([1, 2], [16], [17])]
    found = mismatched(group_pairs(pairs))
    assert [group.prompt_ids for group in found] == [one.prompt_ids for one in pairs]
    assert [group.responses for group in found] == [[[14], [15]], [[14], [15]], [[16], [17]], [[14], [15]]]
    assert [group.pair_ids for group in found] == [[one.id] for one in pairs]


def test_of_several_pairs_those_of_the_first() -> None:
    pairs = [pair([3], [16], [14]), pair([1], [10], [11]), pair([3], [16], [15])]
    assert [group.responses for group in mismatched(group_pairs(pairs, 32))] == [[[10], [11]], [[16], [14]]]


def test_nothing_is_longer_than_the_longest_of_the_data() -> None:
    long_prompt, long_answer = pair([1] * 20, [2] * 3, [3] * 2), pair([4] * 2, [5] * 18, [6])
    first, second = mismatched(group_pairs([long_prompt, long_answer]))
    assert first.responses == [[5] * 3, [6]]
    assert second.responses == [[2] * 3, [3] * 2]


def test_what_is_context_in_an_answer_stays_context() -> None:
    """Of a cut answer what is left of it; one that would be nothing but context is scored."""
    answers = [pair([1] * 20, [2] * 3, [3] * 2), pair([4] * 2, [5] * 18, [6], ((1, 2), (2, 9))), pair([5], [7], [8])]
    first = mismatched(group_pairs(answers))[0]
    assert (first.contexts, list(first.scored(0))) == ([((1, 2), (2, 3)), ()], [0])
    answers[1].chosen_context = ((0, 5),)
    assert mismatched(group_pairs(answers))[0].contexts == [(), ()]


def test_values_that_rows_bring_are_not_taken_for_other_prompts() -> None:
    pairs = [pair([1], [10], [11]), pair([2], [12], [13])]
    for one in pairs:
        one.reference = (-1.0, -2.0)
    groups = group_pairs(pairs)
    assert groups.known().all()
    assert not mismatched(groups).known().any()


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), min_size=1, max_size=30))
def test_whatever_the_data(sizes: list[tuple[int, int]]) -> None:
    pairs = [pair([prompt] * (prompt + 1), [50 + prompt] * n, [60 + prompt] * 2) for prompt, n in sizes]
    groups = group_pairs(pairs)
    if len({prompt for prompt, _ in sizes}) == 1:
        with pytest.raises(DataError, match=r"every prompt is that of f:1.*loss=bco"):
            mismatched(groups)
        return
    longest = max(group.longest for group in groups)
    for own, other in zip(groups, mismatched(groups), strict=True):
        assert other.prompt_ids == own.prompt_ids
        assert all(response and response[0] % 10 != own.prompt_ids[0] for response in other.responses)
        assert other.longest <= longest


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.integers(1, 9)), min_size=1, max_size=30))
def test_equal_keys_are_equal_responses(sizes: list[tuple[int, int, int]]) -> None:
    """And no response of the data itself has one of them: a value is found again for what it was computed for."""
    pairs = [pair([prompt] * 5, [50 + a] * a, [60] * n) for prompt, a, n in sizes]
    pairs += [pair([8], [1], [2]), pair([9], [1], [2])]
    groups = mismatched(group_pairs(pairs))
    keys = groups.pairs.take(KEYS, np.arange(len(groups)))
    texts = [(tuple(p.prompt_ids), tuple(ids)) for p in groups.pairs for ids in (p.chosen_ids, p.rejected_ids)]
    named: dict[bytes, tuple[tuple[int, ...], tuple[int, ...]]] = {}
    for key, text in zip(keys.reshape(-1).tolist(), texts, strict=True):
        assert named.setdefault(key, text) == text
    assert not {*keys.reshape(-1).tolist()} & {*group_pairs(pairs).pairs.column(KEYS).reshape(-1).tolist()}


def test_no_held_out_set_needs_no_partners() -> None:
    assert list(mismatched(group_pairs([]))) == []
