"""Which pairs share a group: each prompt and each response once, nothing lost, and parts of what is too large."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo.data.batch import PromptGroup
from dpo.data.collate import collate
from dpo.data.group import split_group
from dpo.data.groups import chosen_alone, group_pairs
from dpo.data.pair import TokenizedPair
from dpo.data.rows import MicroBatches, spread_groups

pytestmark = pytest.mark.unit


def pair(prompt: list[int], chosen: list[int], rejected: list[int], number: int = 0) -> TokenizedPair:
    return TokenizedPair(
        prompt_ids=prompt, chosen_ids=chosen, rejected_ids=rejected, source=f"f:{number}", id=f"id{number}"
    )


def ranked(prompt: list[int], responses: list[list[int]]) -> list[TokenizedPair]:
    """Every response is better than those behind it: K of them make K (K - 1) / 2 pairs."""
    order = [(i, j) for i in range(len(responses)) for j in range(i + 1, len(responses))]
    return [pair(prompt, responses[i], responses[j], n) for n, (i, j) in enumerate(order)]


def content(group: PromptGroup) -> list[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], str, str]]:
    """The pairs of a group as they stood in the data."""
    found = [(tuple(group.responses[c]), tuple(group.responses[r])) for c, r in group.pairs]
    prompt = tuple(group.prompt_ids)
    return [(prompt, *sides, i, s) for sides, i, s in zip(found, group.pair_ids, group.sources, strict=True)]


def test_ranked_answers_are_one_group_with_each_answer_once() -> None:
    (group,) = group_pairs(ranked([1, 2], [[3], [4, 5], [6], [7, 8]]), most=32)
    assert group.responses == [[3], [4, 5], [6], [7, 8]]
    assert group.pairs == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert group.n_pairs == 6
    assert group.row_tokens == 2 + 0 + 1 + 0 + 1


def test_groups_stand_where_their_first_pair_stood() -> None:
    pairs = [pair([1], [2], [3], 0), pair([9], [2], [3], 1), pair([1], [4], [3], 2), pair([8], [2], [3], 3)]
    groups = group_pairs(pairs, most=32)
    assert [group.pair_ids for group in groups] == [["id0", "id2"], ["id1"], ["id3"]]
    assert groups[0].responses == [[2], [3], [4]] and groups[0].pairs == [(0, 1), (2, 1)]


def test_alone_when_only_one_may_stand_in_a_group() -> None:
    groups = group_pairs([pair([1], [2], [3], i) for i in range(3)], most=1)
    assert [group.pair_ids for group in groups] == [["id0"], ["id1"], ["id2"]]


def test_a_prompt_with_more_pairs_than_a_step_makes_several_groups() -> None:
    """All pairs may have the same prompt: they must not become one step."""
    groups = group_pairs([pair([1], [2, i], [3, i], i) for i in range(10)], most=4)
    assert [group.n_pairs for group in groups] == [4, 4, 2]


ids_st = st.lists(st.integers(0, 3), min_size=1, max_size=4)
pairs_st = st.lists(st.tuples(st.lists(st.integers(0, 1), min_size=1, max_size=2), ids_st, ids_st), max_size=40)


@given(pairs_st, st.integers(1, 7))
def test_no_pair_is_lost_or_changed(rows: list[tuple[list[int], list[int], list[int]]], most: int) -> None:
    pairs = [pair(p, c, r, i) for i, (p, c, r) in enumerate(rows)]
    groups = group_pairs(pairs, most)
    expected = [(tuple(p.prompt_ids), tuple(p.chosen_ids), tuple(p.rejected_ids), p.id, p.source) for p in pairs]
    assert Counter(row for group in groups for row in content(group)) == Counter(expected)
    assert all(1 <= group.n_pairs <= most for group in groups)
    for group in groups:
        assert len({tuple(r) for r in group.responses}) == len(group.responses)


def test_chosen_alone() -> None:
    (group,) = chosen_alone([pair([1], [2, 3], [4])])
    assert (group.responses, group.pairs, group.n_pairs, group.n_common) == ([[2, 3]], [(0, None)], 1, 0)


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize(("tokens", "pairs"), [(200, None), (10**6, 2), (1, None)])
def test_a_group_larger_than_a_row_stands_in_parts(layout: str, tokens: int, pairs: int | None) -> None:
    whole = list(group_pairs(ranked([1] * 50, [[i] * (20 + i) for i in range(2, 8)]), most=32))
    micro = MicroBatches(layout=layout, max_tokens=tokens, max_pairs=pairs, world_size=2)
    rows = [row for worker in spread_groups(whole, micro) for row in worker]
    found = [row for groups in rows for group in groups for row in content(group)]
    assert sorted(found) == sorted(content(whole[0]))
    for groups in rows:
        if sum(group.n_pairs for group in groups) > 1:  # one pair alone may be over the limit
            assert collate(groups, layout).ids.numel() <= tokens
            assert pairs is None or sum(group.n_pairs for group in groups) <= pairs


def test_what_fits_is_not_cut() -> None:
    (whole,) = group_pairs(ranked([1], [[2], [3], [4]]), most=32)
    assert list(split_group(whole, lambda group: True)) == [whole]
    (alone,) = chosen_alone([pair([1], [2], [3])])
    assert list(split_group(alone, lambda group: False)) == [alone]


@pytest.mark.parametrize(
    ("responses", "common", "row_tokens"),
    [
        ([[5, 6, 7, 8], [5, 6, 9]], 2, 3 + 2 + 1 + 0),
        ([[5, 6], [5, 6, 7, 8]], 2, 3 + 2 + 0 + 1),  # the first is the beginning of the second
        ([[5], [6]], 0, 3),
        ([[5, 6, 1], [5, 6, 2], [5, 7, 3]], 1, 3 + 1 + 3 * 1),
    ],
)
def test_first_tokens_in_common_are_computed_once(responses: list[list[int]], common: int, row_tokens: int) -> None:
    group = PromptGroup(prompt_ids=[1, 2, 3], responses=responses, pairs=[(0, 1)], pair_ids=["a"], sources=[""])
    assert (group.n_common, group.row_tokens) == (common, row_tokens)
    batch = collate([group], "packed")
    assert batch.ids.numel() == row_tokens
    assert batch.targets.tolist() == [token for response in responses for token in response]
    # What stands before every scored position is what its response has before the target.
    ends = batch.scored.tolist()
    assert len(ends) == len(batch.targets)
    contexts = [[1, 2, 3, *response[:i]] for response in responses for i in range(len(response))]
    assert [batch.positions[0, end].item() + 1 for end in ends] == [len(context) for context in contexts]
    assert [batch.ids[0, end].item() for end in ends] == [context[-1] for context in contexts]
