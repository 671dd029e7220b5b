"""Prompts with answers to other prompts, whatever the batch: fixed partners, no own answers, nothing too long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo.data.batch import PromptGroup
from dpo.data.mismatched import mismatched
from dpo.errors import DataError

pytestmark = pytest.mark.unit


def group(prompt: list[int], *responses: list[int], pairs: list[tuple[int, int]] | None = None) -> PromptGroup:
    pairs = pairs or [(0, 1)]
    names = [f"{prompt}{i}" for i in range(len(pairs))]
    return PromptGroup(prompt_ids=prompt, responses=list(responses), pairs=pairs, pair_ids=names, sources=names)


def test_each_prompt_gets_the_answers_of_the_next_other_prompt() -> None:
    """Pairs of one prompt that stand behind each other have the same partner; behind the last comes the first."""
    groups = [
        group([1, 2], [10], [11]),
        group([1, 2], [12], [13]),
        group([3], [14], [15]),
        group([1, 2], [16], [17]),
    ]
    found = mismatched(groups)
    assert [g.prompt_ids for g in found] == [g.prompt_ids for g in groups]
    assert [g.responses for g in found] == [[[14], [15]], [[14], [15]], [[16], [17]], [[14], [15]]]
    assert [g.pair_ids for g in found] == [g.pair_ids for g in groups]
    assert all(g.pairs == [] and g.reference is None for g in found)


def test_of_ranked_answers_those_of_the_first_pair() -> None:
    ranked = group([3], [14], [15], [16], pairs=[(2, 0), (2, 1), (0, 1)])
    assert mismatched([group([1], [10], [11]), ranked])[0].responses == [[16], [14]]


def test_nothing_is_longer_than_the_longest_of_the_data() -> None:
    long_prompt, long_answer = group([1] * 20, [2] * 3, [3] * 2), group([4] * 2, [5] * 18, [6])
    first, second = mismatched([long_prompt, long_answer])
    assert first.responses == [[5] * 3, [6]]
    assert second.responses == [[2] * 3, [3] * 2]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), min_size=1, max_size=30))
def test_whatever_the_data(sizes: list[tuple[int, int]]) -> None:
    groups = [group([prompt] * (prompt + 1), [50 + prompt] * n, [60 + prompt] * 2) for prompt, n in sizes]
    if len({prompt for prompt, _ in sizes}) == 1:
        with pytest.raises(DataError, match="have one prompt"):
            mismatched(groups)
        return
    longest = max(g.longest for g in groups)
    for own, other in zip(groups, mismatched(groups), strict=True):
        assert other.prompt_ids == own.prompt_ids
        assert all(response and response[0] - 50 != own.prompt_ids[0] for response in other.responses)
        assert all(response and response[0] - 60 != own.prompt_ids[0] for response in other.responses)
        assert other.longest <= longest


def test_no_held_out_set_needs_no_partners() -> None:
    assert mismatched([]) == []
