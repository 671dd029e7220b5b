"""The reference's pass: what is computed, in which rows, what is kept, and when it stops."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from one_worker import world

from dpo.data.batch import Batch
from dpo.data.groups import group_pairs
from dpo.data.pair import TokenizedPair
from dpo.data.rows import MicroBatches
from dpo.errors import ModelError
from dpo.preempt import Stopped, StopRequest
from dpo.reference import compute
from dpo.reference.compute import Pass, cut_rows, missing_rows
from dpo.reference.keys import response_keys
from dpo.reference.responses import Responses
from dpo.reference.store import Fingerprint, Store, parts_of

pytestmark = pytest.mark.unit


class Lengths:
    """Stands in for a model: the log-probability of a response is minus its length, a thousandth for the prompt."""

    def __init__(self) -> None:
        self.rows: list[Batch] = []
        self.after: Callable[[], None] = lambda: None

    def logps(self, batch: Batch) -> torch.Tensor:
        self.rows.append(batch)
        self.after()
        return -batch.tokens


def pairs_of(*lengths: list[int], prompt: int | None = None) -> list[TokenizedPair]:
    """A pair for each two lengths of responses, with a prompt of its own unless they share one."""
    return [
        TokenizedPair(
            prompt_ids=[i if prompt is None else prompt, 1, 2],
            chosen_ids=response(chosen, 3 + (0 if prompt is None else i)),
            rejected_ids=response(rejected, 103 + (0 if prompt is None else i)),
            source=f"a.jsonl:{i}",
            id=str(i),
        )
        for i, (chosen, rejected) in enumerate(lengths)
    ]


def response(length: int, first: int) -> list[int]:
    return [first, *range(1000, 999 + length)]


def responses_of(pairs: list[TokenizedPair]) -> Responses:
    return Responses([group_pairs(pairs)])


def a_pass(store: Store, responses: Responses, model: Lengths, max_tokens: int = 12) -> Pass:
    return Pass(
        reference=model,
        micro=limits("packed", max_tokens),
        world=world(),
        store=store,
        responses=responses,
        stop=StopRequest(),
    )


def a_store(folder: Path) -> Store:
    return Store(folder, Fingerprint(digest="ab" * 32, model="m", parts={}))


def nothing_known(responses: Responses) -> np.ndarray:
    return np.full(len(responses), np.nan, np.float32)


def limits(layout: str, max_tokens: int) -> MicroBatches:
    return MicroBatches(layout=layout, max_tokens=max_tokens, max_pairs=None, world_size=1)


ROWS = limits("packed", 12)


def all_of(responses: Responses) -> np.ndarray:
    return np.arange(len(responses))


def test_every_response_is_computed_once_and_goes_to_all_its_groups(tmp_path: Path) -> None:
    pairs = pairs_of([5, 3], [2, 4], [7, 6])
    pairs.append(replace(pairs[0], chosen_ids=pairs[0].rejected_ids, rejected_ids=pairs[0].chosen_ids))
    train, held_out = group_pairs(pairs[:2]), group_pairs(pairs[2:])
    responses, model = Responses([train, held_out]), Lengths()
    values = nothing_known(responses)
    a_pass(a_store(tmp_path), responses, model).run(missing_rows(responses, values, ROWS), values)
    responses.assign(values)
    assert [group.reference for group in (*train, *held_out)] == [[-5, -3], [-2, -4], [-7, -6], [-3, -5]]
    assert sum(len(batch.tokens) for batch in model.rows) == 6
    np.testing.assert_array_equal(responses.look_up(a_store(tmp_path).lookup), values)


def test_the_keys_are_those_of_the_groups() -> None:
    groups = group_pairs([replace(pair, chosen_context=((1, 2),)) for pair in pairs_of([5, 3], [2, 4], [7, 6])], 4)
    responses = Responses([groups])
    assert responses.keys(responses.places).tolist() == response_keys(groups).tolist()


def test_only_what_is_missing_is_computed() -> None:
    responses = responses_of(pairs_of([5, 3], [2, 4]))
    values = np.where(np.arange(4) % 2, np.nan, np.float32(0)).astype(np.float32)
    missing = [t for row in missing_rows(responses, values, ROWS) for t in row.load(responses)]
    assert sorted(place for t in missing for place in t.places) == [1, 3]
    for t in missing:
        assert response_keys([t.group]).tolist() == responses.keys(np.array(t.places)).tolist()


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("seed", range(5))
def test_what_a_killed_pass_left_is_computed_in_the_rows_it_had_cut(seed: int, layout: str) -> None:
    """Whatever rows each worker had kept by then, and on whatever number of workers it goes on."""
    generator = np.random.default_rng(seed)
    responses, micro = responses_of(pairs_of(*generator.integers(1, 60, (100, 2)).tolist())), limits(layout, 300)
    values = nothing_known(responses)
    rows = missing_rows(responses, values, micro)
    kept = generator.random(len(rows)) < 0.5
    for row in (row for row, done in zip(rows, kept, strict=True) if done):
        values[row.places] = -1
    left = [row.places.tolist() for row in missing_rows(responses, values, micro)]
    assert left == [row.places.tolist() for row, done in zip(rows, kept, strict=True) if not done]


def test_rows_of_which_another_run_kept_a_part_are_cut_anew() -> None:
    responses = responses_of(pairs_of(*[[5, 3]] * 8))
    values = nothing_known(responses)
    values[::2] = -1
    assert len(missing_rows(responses, values, ROWS)) < len(missing_rows(responses, nothing_known(responses), ROWS))


def test_pairs_of_one_prompt_share_it_as_far_as_a_row_holds_them() -> None:
    responses = responses_of(pairs_of([3, 4], [5, 6], [7, 8], prompt=9))
    planned = responses.together(all_of(responses), lambda group: len(group.responses) <= 4)
    assert np.diff(planned.begins).tolist() == [4, 2]
    assert sorted(planned.places.tolist()) == list(range(6))
    first = responses.load(planned.places[:4].tolist()).group
    assert [len(ids) for ids in first.responses] == [3, 4, 5, 6]
    assert (planned.longest[0], planned.row_tokens[0]) == (first.longest, first.row_tokens)


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_rows_are_full_and_hold_neighbours_by_length(layout: str) -> None:
    generator = np.random.default_rng(0)
    responses = responses_of(pairs_of(*generator.integers(1, 60, (400, 2)).tolist()))
    planned = responses.together(all_of(responses), limits(layout, 1000).hold)
    rows = cut_rows(planned, limits(layout, 1000))
    assert sorted(place for row in rows for place in row.places) == list(range(len(responses)))
    loaded = [row.load(responses) for row in rows]
    lengths = [[t.group.longest for t in row] for row in loaded]
    assert [n for row in lengths for n in row] == sorted((n for row in lengths for n in row), reverse=True)
    assert [row.longest for row in rows] == [row[0] for row in lengths]
    assert [row.tokens for row in rows] == [sum(t.group.row_tokens for t in row) for row in loaded]
    costs = [limits(layout, 1000).cost([t.group for t in row]) for row in loaded]
    assert max(costs) <= 1000
    assert min(costs[:-1]) > 850


def test_what_is_longer_than_a_row_gets_one_of_its_own() -> None:
    responses = responses_of(pairs_of([50, 3], [2, 4]))
    rows = missing_rows(responses, nothing_known(responses), ROWS)
    first = rows[0].load(responses)
    assert len(first) == 1 and first[0].group.row_tokens > 12
    assert sum(len(row.places) for row in rows) == 4


def test_it_writes_as_it_goes_and_stops_between_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, "FLUSH_SECONDS", -1.0)  # a part after every row
    responses, model = responses_of(pairs_of(*[[5, 3]] * 6)), Lengths()
    values = nothing_known(responses)
    first = a_pass(a_store(tmp_path), responses, model)
    model.after = lambda: setattr(first.stop, "reason", "asked to") if len(model.rows) == 2 else None
    with pytest.raises(Stopped, match="asked to"):
        first.run(missing_rows(responses, values, ROWS), values)
    assert len(parts_of(a_store(tmp_path).folder)) == 2
    known = responses.look_up(a_store(tmp_path).lookup)
    n_missing = int(np.isnan(known).sum())
    assert 0 < n_missing < len(known)
    again = Lengths()
    a_pass(a_store(tmp_path), responses, again).run(missing_rows(responses, known, ROWS), known)
    assert sum(len(batch.tokens) for batch in again.rows) == n_missing
    assert not np.isnan(known).any()


def test_between_two_parts_nothing_is_written(tmp_path: Path) -> None:
    responses, model = responses_of(pairs_of(*[[5, 3]] * 6)), Lengths()
    values = nothing_known(responses)
    model.after = lambda: assert_none(a_store(tmp_path))
    a_pass(a_store(tmp_path), responses, model).run(missing_rows(responses, values, ROWS), values)
    assert len(model.rows) > 2 and len(parts_of(a_store(tmp_path).folder)) == 1


def assert_none(store: Store) -> None:
    assert parts_of(store.folder) == []


def test_what_is_not_finite_names_the_row_and_is_not_kept(tmp_path: Path) -> None:
    class Broken(Lengths):
        def logps(self, batch: Batch) -> torch.Tensor:
            return torch.where(batch.tokens == 4, torch.nan, -batch.tokens)

    responses = responses_of(pairs_of([5, 3], [2, 4]))
    values = nothing_known(responses)
    rows = missing_rows(responses, values, limits("packed", 100))
    with pytest.raises(ModelError, match=r"a\.jsonl:1 is not finite"):
        a_pass(a_store(tmp_path), responses, Broken(), 100).run(rows, values)
    assert int(np.isfinite(responses.look_up(a_store(tmp_path).lookup)).sum()) == 3
