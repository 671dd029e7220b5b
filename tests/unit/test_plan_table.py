"""The printed plan of a step is what training does: the same pairs, the same rows, the same digest."""

import re

import pytest

from dpo.data.batch import Judged, PromptGroup
from dpo.data.loader import Loader
from dpo.data.plan import DataPlan
from dpo.data.plan_table import plan_table
from dpo.data.rows import MicroBatches

pytestmark = pytest.mark.unit


def group(i: int, n_answers: int) -> PromptGroup:
    """Prompt of 10 + i tokens, answers of 3, 4, 5, ..., the first preferred to each other; one answer: only learnt."""
    pairs: list[Judged] = [(0, k) for k in range(1, n_answers)] or [(0, None)]
    return PromptGroup(
        prompt_ids=[1] * (10 + i),
        responses=[[2, i, *[5] * (k + 1)] for k in range(n_answers)],
        pairs=pairs,
        pair_ids=[f"{i}.{k}" for k in range(len(pairs))],
        sources=[f"pairs.jsonl:{i}{k}" for k in range(len(pairs))],
    )


RANKED = [group(i, 2 if i % 3 else 4) for i in range(20)]
ANSWERS = [group(i, 1) for i in range(20)]


def micro(layout: str, workers: int, max_pairs: int | None = None) -> MicroBatches:
    return MicroBatches(layout=layout, max_tokens=64, max_pairs=max_pairs, world_size=workers)


def sections(text: str) -> dict[tuple[int, int], list[list[str]]]:
    """(worker, micro-batch) -> its pairs as columns."""
    found: dict[tuple[int, int], list[list[str]]] = {}
    for block in text.split("\n\n")[1:]:
        heading, *lines = block.splitlines()
        place = re.match(r"worker (\d+), micro-batch (\d+): ", heading)
        assert place
        found[int(place[1]), int(place[2])] = [line.split() for line in lines[1:]]
    return found


@pytest.mark.parametrize("groups", [RANKED, ANSWERS], ids=["ranked", "answers"])
@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize(("workers", "max_pairs"), [(1, None), (3, None), (2, 2)])
def test_it_shows_what_the_workers_load(
    groups: list[PromptGroup], layout: str, workers: int, max_pairs: int | None
) -> None:
    plan = DataPlan(groups, seed=3, global_batch_size=7)
    bounds = micro(layout, workers, max_pairs)
    for step in (0, 4):
        text = plan_table(plan, step, bounds)
        shown = sections(text)
        for worker in range(workers):
            loader = Loader(plan=plan, micro=bounds, worker=worker, pin=False, total_steps=step + 1)
            batches = loader.step(step).batches
            assert [number for w, number in shown if w == worker] == list(range(1, len(batches) + 1))
            for number, batch in enumerate(batches, start=1):
                assert [line[1] for line in shown[worker, number]] == batch.pair_ids
        assert f"step {step + 1}: batch {plan.step(step).digest}, " in text


def test_a_pair_with_its_lengths_and_place() -> None:
    plan = DataPlan(RANKED, seed=3, global_batch_size=7)
    rows = {line[1]: line for lines in sections(plan_table(plan, 0, micro("packed", 1))).values() for line in lines}
    assert rows
    for pair_id, line in rows.items():
        i, k = map(int, pair_id.split("."))
        assert line == [str(i), pair_id, str(10 + i), "3", str(4 + k), f"pairs.jsonl:{i}{k}"]


def test_fill_and_empty_rows() -> None:
    """A group of 13 + 2 tokens alone in its row; the second worker has nothing to do."""
    plan = DataPlan([group(0, 2)], seed=0, global_batch_size=1)
    text = plan_table(plan, 0, micro("packed", 2))
    row = RANKED[1].row_tokens - 1  # one prompt token less
    assert f"worker 0, micro-batch 1: {row} tokens computed, {row / 64:.1%} full" in text
    assert "worker 1, micro-batch 1: empty" in text
    assert "2 workers, 1 micro-batch each, of at most 64 tokens, layout packed" in text
