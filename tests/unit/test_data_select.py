"""Selection by columns: duplicates, the held-out split, leaks and the mix of an epoch."""

import hashlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dpo.data.select.contamination import find_contamination
from dpo.data.select.duplicates import find_duplicates
from dpo.data.select.leaks import find_leaks
from dpo.data.select.mix import Share, epoch_passes, mix_notes
from dpo.data.select.split import split_rows

HASHES = st.lists(st.integers(0, 2**64 - 1), max_size=60)
FEW = st.lists(st.integers(0, 9), max_size=60)


def column(values: list[int]) -> NDArray[np.uint64]:
    return np.array(values, dtype=np.uint64)


def hashes(count: int, per_prompt: int = 1) -> NDArray[np.uint64]:
    digests = [hashlib.sha256(str(n // per_prompt).encode()).hexdigest()[:16] for n in range(count)]
    return column([int(digest, 16) for digest in digests])


@given(FEW)
def test_the_first_of_every_id_is_kept(ids: list[int]) -> None:
    found = find_duplicates(column(ids))
    assert found.kept.tolist() == [row for row, one in enumerate(ids) if one not in ids[:row]]
    assert sorted([*found.kept.tolist(), *found.dropped.tolist()]) == list(range(len(ids)))
    assert found.first.tolist() == [ids.index(ids[row]) for row in found.dropped.tolist()]


def plain_split(prompts: list[int], fraction: float) -> list[bool]:
    """Which rows are held out, written as the rule says it."""
    distinct = sorted(set(prompts))
    held = {prompt for prompt in distinct if prompt / 2**64 < fraction}
    if len(distinct) < 2:
        held = set()
    elif fraction > 0:
        held = (held | {distinct[0]}) - {distinct[-1]}
    return [prompt in held for prompt in prompts]


@settings(max_examples=300)
@given(HASHES | FEW, st.floats(0, 0.9))
def test_the_split_is_by_prompt_and_by_hash(prompts: list[int], fraction: float) -> None:
    found = split_rows(column(prompts), fraction)
    held = plain_split(prompts, fraction)
    assert found.held_out.tolist() == [row for row, is_held in enumerate(held) if is_held]
    assert found.train.tolist() == [row for row, is_held in enumerate(held) if not is_held]


def test_the_split_of_many_prompts_has_about_its_fraction() -> None:
    prompts = hashes(4000, per_prompt=2)
    found = split_rows(prompts, 0.25)
    assert 900 < len(found.held_out) < 1100
    assert not set(prompts[found.train].tolist()) & set(prompts[found.held_out].tolist())
    mirrored = split_rows(prompts[::-1], 0.25)
    assert set(prompts[::-1][mirrored.held_out].tolist()) == set(prompts[found.held_out].tolist())


def test_a_small_set_still_holds_out_a_prompt_and_trains_on_one() -> None:
    three = column([7 << 60, 5 << 60, 9 << 60])  # 7/16, 5/16 and 9/16 of the range
    assert split_rows(three, 0.4).held_out.tolist() == [1]
    assert split_rows(three, 1e-9).held_out.tolist() == [1]
    assert split_rows(three, 0.9).train.tolist() == [2]
    assert split_rows(three[[0, 0]], 0.9).held_out.tolist() == []
    assert split_rows(three, 0.0).held_out.tolist() == []


@given(FEW, FEW)
def test_prompts_of_the_held_out_data_leave_training(train: list[int], held_out: list[int]) -> None:
    found = find_leaks(column(train), column(held_out))
    assert found.leaked.tolist() == [row for row, prompt in enumerate(train) if prompt in held_out]
    assert found.kept.tolist() == [row for row, prompt in enumerate(train) if prompt not in held_out]


def test_contaminated_rows_are_counted_by_prompt_and_dropped_if_asked() -> None:
    prompts = column([7, 8, 7, 9, 6, 5])
    shares = np.array([0.2, 1.0, 0.2, 0.0, 0.6, 0.5])
    found = find_contamination(prompts, shares, None)
    assert (found.prompts, found.affected, found.mostly, found.left_out) == (5, 4, 3, 0)
    assert (found.kept.tolist(), found.worst.tolist()) == ([0, 1, 2, 3, 4, 5], [1, 4, 5])
    some = find_contamination(prompts, shares, 0.6)
    assert (some.kept.tolist(), some.dropped.tolist(), some.left_out) == ([0, 2, 3, 5], [1, 4], 2)
    assert find_contamination(prompts, shares, 0.1).kept.tolist() == [3]
    none = find_contamination(prompts[:0], shares[:0], 0.5)
    assert (none.prompts, none.affected, none.worst.tolist()) == (0, 0, [])


PROMPTS = hashes(300, per_prompt=3)
ONE = np.zeros(300, dtype=np.uint16)


def seen(share: Share, prompts: NDArray[np.uint64] = PROMPTS) -> Counter[int]:
    """Row -> how often an epoch sees it."""
    passes = epoch_passes(prompts, ONE[: len(prompts)], [share])
    assert all(len(set(rows.tolist())) == len(rows) and sorted(rows.tolist()) == rows.tolist() for rows in passes)
    return Counter(row for rows in passes for row in rows.tolist())


def test_weight_one_is_every_pair_once_in_one_pass() -> None:
    (rows,) = epoch_passes(PROMPTS, ONE, [Share()])
    assert rows.tolist() == list(range(300))


def test_a_weight_is_how_often_a_pair_is_seen_prompt_by_prompt() -> None:
    half = seen(Share(weight=0.5))
    assert Counter(half.values()) == {1: 150}
    chosen = {int(PROMPTS[row]) for row in half}
    assert len(chosen) == 50, "all three pairs of a prompt, or none"
    assert Counter(seen(Share(weight=2.5)).values()) == {2: 150, 3: 150}
    assert Counter(seen(Share(weight=3)).values()) == {3: 300}
    assert len(seen(Share(weight=1e-9))) == 3, "one prompt at least"


@given(st.floats(0.01, 3), st.floats(0.01, 3))
def test_a_larger_share_holds_the_smaller_one(first: float, second: float) -> None:
    less, more = seen(Share(weight=min(first, second))), seen(Share(weight=max(first, second)))
    assert less <= more
    counts = [seen(Share(count=max(1, round(300 * weight)))) for weight in sorted((first, second))]
    assert counts[0] <= counts[1]


@given(st.integers(1, 1000), st.integers(1, 300))
def test_a_count_is_exact_and_repeats_what_is_too_little(count: int, pairs: int) -> None:
    found = seen(Share(count=count), PROMPTS[:pairs])
    assert found.total() == count
    assert set(found.values()) <= {count // pairs, count // pairs + 1}


def test_the_part_does_not_depend_on_the_order_and_not_on_the_split() -> None:
    order = np.random.default_rng(0).permutation(300)
    shuffled = seen(Share(weight=0.3), PROMPTS[order])
    assert {int(PROMPTS[order][row]) for row in shuffled} == {int(PROMPTS[row]) for row in seen(Share(weight=0.3))}
    train = PROMPTS[split_rows(PROMPTS, 0.3).train]
    assert {prompt / 2**64 < 0.5 for prompt in train[list(seen(Share(weight=0.2), train))].tolist()} == {True, False}


def test_every_source_has_its_own_share() -> None:
    sources = np.array([0, 1, 2] * 100)
    passes = epoch_passes(PROMPTS, sources, [Share(weight=2), Share(count=7), Share()])
    rows = np.concatenate(passes)
    assert np.bincount(sources[rows]).tolist() == [200, 7, 100]
    assert [len(one) for one in passes] == [207, 100]


def test_a_source_without_rows_gives_none() -> None:
    (rows,) = epoch_passes(PROMPTS, ONE, [Share(), Share(count=5)])
    assert len(rows) == 300
    assert epoch_passes(PROMPTS[:0], ONE[:0], [Share()]) == []


@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_the_log_names_every_source_with_its_share(weight: float) -> None:
    sources = np.array([0] * 100 + [1] * 200)
    rows = np.concatenate(epoch_passes(hashes(300), sources, [Share(), Share(weight=weight)]))
    first, second = mix_notes(["a", "b"], np.bincount(sources), np.bincount(sources[rows]))
    share = 50.0 if weight == 0.5 else 33.3
    assert first == f"data: mix: a: 100 training pairs, 100 per epoch, {share} % of it"
    assert second.startswith(f"data: mix: b: 200 training pairs, {int(200 * weight)} per epoch, ")
