"""Which pairs stand in which step, and how they spread over workers and rows: nothing lost and nothing twice."""

import math
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpo.data import plan as module
from dpo.data.batch import PromptGroup
from dpo.data.collate import collate
from dpo.data.plan import DataPlan, StepPlan
from dpo.data.rows import MicroBatches, fill_rows

pytestmark = pytest.mark.unit

sizes_st = st.lists(st.integers(1, 6), min_size=1, max_size=60)
batch_st = st.integers(1, 20)
group_st = st.tuples(st.integers(1, 60), st.lists(st.integers(1, 60), min_size=1, max_size=4))
groups_st = st.lists(group_st, min_size=1, max_size=25)


def group(prompt: int, lengths: list[int], name: str = "") -> PromptGroup:
    pairs = [(0, i) for i in range(1, len(lengths))]
    return PromptGroup(
        prompt_ids=[1] * prompt,
        responses=[[1] * length for length in lengths],
        pairs=pairs,
        pair_ids=[f"{name}/{i}" for i in range(max(1, len(pairs)))],  # a single answer stands for its pair
        sources=[name],
    )


def groups_of(sizes: list[int]) -> list[PromptGroup]:
    """Groups that stand for so many pairs each."""
    return [group(3, [2] * (size + 1), name=f"g{i}") for i, size in enumerate(sizes)]


def epoch_batches(sizes: list[int], seed: int, epoch: int, batch: int) -> list[list[int]]:
    return list(module.epoch_batches(np.array(sizes), seed, epoch, batch))


def real_groups(count: int, seed: int = 0) -> list[PromptGroup]:
    """Lengths as in public preference data: log-normal, medians of 150 prompt and 250 answer tokens, cut at 2048."""
    rng = np.random.default_rng(seed)
    prompts = np.clip(rng.lognormal(math.log(150), 0.9, count), 5, 1024).astype(int).tolist()
    answers = np.clip(rng.lognormal(math.log(250), 0.7, (count, 2)), 2, 1024).astype(int).tolist()
    return [group(p, a, name=f"g{i}") for i, (p, a) in enumerate(zip(prompts, answers, strict=True))]


# Epochs and steps


@given(sizes_st, st.integers(0, 2**40), st.integers(0, 5), batch_st)
def test_every_group_once_per_epoch_and_never_cut(sizes: list[int], seed: int, epoch: int, batch: int) -> None:
    """A step holds the global batch, or what its last group is more; only the last step may be smaller."""
    batches = epoch_batches(sizes, seed, epoch, batch)
    assert sorted(g for step in batches for g in step) == list(range(len(sizes)))
    totals = [sum(sizes[g] for g in step) for step in batches]
    assert all(total >= batch for total in totals[:-1])
    assert totals[-1] >= 1
    assert all(sum(sizes[g] for g in step[:-1]) < batch for step in batches)


@given(st.integers(1, 200), batch_st)
def test_pairs_alone_fill_steps_exactly(count: int, batch: int) -> None:
    lengths = [len(step) for step in epoch_batches([1] * count, 0, 0, batch)]
    assert lengths == [batch] * (count // batch) + ([count % batch] if count % batch else [])


def test_the_order_depends_on_seed_and_epoch_and_on_nothing_else() -> None:
    sizes = [1] * 40
    first = epoch_batches(sizes, 42, 0, 8)
    assert epoch_batches(sizes, 42, 0, 8) == first
    assert epoch_batches(sizes, 42, 1, 8) != first
    assert epoch_batches(sizes, 43, 0, 8) != first
    assert [g for s in epoch_batches(sizes, 42, 0, 5) for g in s] == [g for s in first for g in s]  # one permutation
    assert first != [list(range(i, i + 8)) for i in range(0, 40, 8)]  # shuffled at all
    # A change of the shuffle would break the resume of every run begun before it.
    assert epoch_batches([1] * 6, 42, 0, 4) == [[3, 2, 5, 4], [1, 0]]


def test_steps_in_epochs_and_fractions_of_them() -> None:
    plan = DataPlan(groups_of([1] * 50), seed=0, global_batch_size=8)  # 7 steps per epoch, the last of 2 pairs
    assert plan.total_steps(1, None) == 7
    assert plan.total_steps(3, None) == 21
    assert plan.total_steps(0.5, None) == 4  # rounded up: half an epoch is trained at least
    assert plan.total_steps(1.01, None) == 8
    assert plan.total_steps(2 + 1 / 7, None) == 15  # 0.142857 * 7 is one step, not one and a rounding
    assert plan.total_steps(0.001, None) == 1
    assert plan.total_steps(3, 5) == 5
    assert plan.total_steps(1, 100) == 7  # max_steps ends a run, it never lengthens it


def test_steps_follow_each_other_through_the_epochs() -> None:
    sizes = [1, 3, 2, 1, 1, 4, 1, 2, 1, 1]
    plan = DataPlan(groups_of(sizes), seed=3, global_batch_size=4)
    total = plan.total_steps(3, None)
    steps = [plan.step(i) for i in range(total)]
    expected = [batch for epoch in range(3) for batch in epoch_batches(sizes, 3, epoch, 4)]
    assert [step.groups for step in steps] == expected
    assert [step.step for step in steps] == list(range(total))
    epochs = [step.epoch for step in steps]
    assert epochs == sorted(set(epochs)) and epochs[-1] == 3.0
    n_first = len(epoch_batches(sizes, 3, 0, 4))
    assert epochs[n_first - 1] == 1.0 and epochs[0] == pytest.approx(1 / n_first)


def test_any_step_is_known_without_the_ones_before() -> None:
    """What a resumed run needs: step 17 alone equals step 17 after 0 to 16, also back and forth."""
    groups = groups_of([1, 2] * 15)
    straight = DataPlan(groups, seed=1, global_batch_size=8)
    walked = [straight.step(i) for i in range(20)]
    assert DataPlan(groups, seed=1, global_batch_size=8).step(17) == walked[17]
    assert [straight.step(i) for i in (19, 3, 12, 3)] == [walked[i] for i in (19, 3, 12, 3)]


def test_a_step_counts_its_pairs_and_tokens() -> None:
    groups = [group(7, [3, 4], "a"), group(2, [5, 1, 9], "b"), group(4, [6], "c")]
    step = DataPlan(groups, seed=0, global_batch_size=100).step(0)
    counts = step.counts
    assert (counts.pairs, counts.response_tokens, counts.tokens) == (1 + 2 + 1, 7 + 15 + 6, 14 + 17 + 10)


def test_the_digest_names_pairs_and_order() -> None:
    def digest(groups: list[PromptGroup], seed: int = 0) -> str:
        return DataPlan(groups, seed=seed, global_batch_size=100).step(0).digest

    groups = groups_of([1] * 6)
    assert digest(groups) == digest(groups_of([1] * 6))
    assert len(digest(groups)) == 8
    assert digest(groups) != digest(groups, seed=1)
    assert digest(groups) != digest([*groups[:-1], group(3, [2, 2], name="another")])


# Workers and rows


def micro(world: int = 1, tokens: int = 200, pairs: int | None = None, layout: str = "packed") -> MicroBatches:
    return MicroBatches(layout=layout, max_tokens=tokens, max_pairs=pairs, world_size=world)


def computed(groups: list[PromptGroup], row: list[int], layout: str) -> int:
    """Tokens of a row, padding included, as the collator really lays them out."""
    return collate([groups[g] for g in row], layout).ids.numel() if row else 0


layout_st = st.sampled_from(["packed", "padded"])
limits_st = st.builds(micro, st.integers(1, 9), st.integers(1, 400), st.none() | st.integers(1, 8), layout_st)


@settings(max_examples=300, deadline=None)
@given(groups_st, limits_st, st.randoms())
def test_rows_hold_every_group_once_within_the_limits(
    parts: list[tuple[int, list[int]]], limits: MicroBatches, random: Random
) -> None:
    groups = [group(prompt, lengths, name=str(i)) for i, (prompt, lengths) in enumerate(parts)]
    chosen = [i for i in range(len(groups)) if random.random() < 0.7] or [0]
    workers = fill_rows(groups, chosen, limits)
    assert sorted(g for rows in workers for row in rows for g in row) == chosen
    assert len(workers) == limits.world_size
    assert len({len(rows) for rows in workers}) == 1  # as many micro-batches on every worker: collectives
    for row in (row for rows in workers for row in rows):
        if len(row) > 1:  # a group that is over the limit by itself gets a row of its own
            assert computed(groups, row, limits.layout) <= limits.max_tokens
            assert limits.max_pairs is None or sum(groups[g].n_pairs for g in row) <= limits.max_pairs


@settings(max_examples=100, deadline=None)
@given(groups_st, limits_st)
def test_rows_are_the_same_whatever_the_order_of_the_chosen(
    parts: list[tuple[int, list[int]]], limits: MicroBatches
) -> None:
    """Every worker computes the whole plan alone: it must come to the same."""
    groups = [group(prompt, lengths, name=str(i)) for i, (prompt, lengths) in enumerate(parts)]
    chosen = list(range(len(groups)))
    assert fill_rows(groups, chosen, limits) == fill_rows(groups, chosen[::-1], limits)


def test_too_few_groups_leave_workers_an_empty_row() -> None:
    groups = groups_of([1, 1, 1])
    workers = fill_rows(groups, [0, 1, 2], micro(world=5))
    assert sorted(len(row) for rows in workers for row in rows) == [0, 0, 1, 1, 1]
    assert [len(rows) for rows in workers] == [1] * 5


def test_an_oversized_group_stands_alone() -> None:
    groups = [group(500, [400, 400]), *groups_of([1] * 10)]
    rows = fill_rows(groups, list(range(11)), micro(world=2, tokens=60))
    assert [0] in [row for worker in rows for row in worker]


@pytest.mark.parametrize("pairs", [1, 2, 8])
@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_micro_batches_of_so_many_pairs(layout: str, pairs: int) -> None:
    """With room for the tokens, 16 pairs make 16 / pairs rows over the workers, all full."""
    groups = groups_of([1] * 16)
    for world in (1, 2):
        workers = fill_rows(groups, list(range(16)), micro(world=world, tokens=10**6, pairs=pairs, layout=layout))
        assert [len(row) for rows in workers for row in rows] == [pairs] * (16 // pairs)


@pytest.mark.parametrize("world", [1, 2, 3, 4, 8])
def test_the_data_order_does_not_know_the_workers(world: int) -> None:
    """What a step trains on is the same for every number of workers; only who computes it differs."""
    groups = real_groups(100)
    steps: list[StepPlan] = [DataPlan(groups, seed=5, global_batch_size=24).step(i) for i in range(6)]
    for step in steps:
        workers = fill_rows(groups, step.groups, micro(world=world, tokens=4096))
        assert sorted(g for rows in workers for row in rows for g in row) == sorted(step.groups)


@pytest.mark.parametrize("world", [1, 8])
@pytest.mark.parametrize("tokens", [4096, 8192, 16384])
def test_rows_are_full_on_realistic_lengths(world: int, tokens: int) -> None:
    """Thousands of pairs: at least 95 % of what the rows could hold is computed."""
    groups = real_groups(4096)
    workers = fill_rows(groups, list(range(len(groups))), micro(world=world, tokens=tokens))
    n_rows = sum(len(rows) for rows in workers)
    assert sum(group.row_tokens for group in groups) / (tokens * n_rows) >= 0.95


def test_rows_that_run_at_the_same_time_are_alike() -> None:
    """A step waits for its slowest worker in every micro-batch: 64 pairs on 8 workers are within 5 % of the mean."""
    groups = real_groups(64, seed=2)
    workers = fill_rows(groups, list(range(64)), micro(world=8, tokens=8192))
    for side_by_side in zip(*workers, strict=True):
        costs = [computed(groups, row, "packed") for row in side_by_side]
        assert max(costs) / (sum(costs) / len(costs)) < 1.05


def test_hardly_more_micro_batches_than_a_perfect_filling_takes() -> None:
    """128 pairs of realistic lengths on 4 workers, some of them longer than half a row."""
    groups = real_groups(128, seed=3)
    for tokens, more in ((2048, 2), (4096, 1), (8192, 0)):
        workers = fill_rows(groups, list(range(128)), micro(world=4, tokens=tokens))
        perfect = math.ceil(sum(group.row_tokens for group in groups) / (4 * tokens))
        assert len(workers[0]) <= perfect + more


def test_padded_rows_hold_neighbours_by_length() -> None:
    """512 pairs of realistic lengths: little of what is computed is padding, and no worker waits long."""
    groups = real_groups(512, seed=4)
    workers = fill_rows(groups, list(range(512)), micro(world=4, tokens=8192, layout="padded"))
    costs = [[computed(groups, row, "padded") for row in rows] for rows in workers]
    real = sum(len(group.prompt_ids) + len(r) - 1 for group in groups for r in group.responses)
    assert real / sum(map(sum, costs)) > 0.8
    for side_by_side in zip(*costs, strict=True):
        assert max(side_by_side) / (sum(side_by_side) / len(side_by_side)) < 1.25
