"""Which side is chosen and by how much: lists, scores against labels, several qualities as one."""

from pathlib import Path
from typing import Any

import pytest
from format_rows import HELPSTEER, MESSAGES, RANKED, SAFER, STRINGS, completion, convert, converter, told, write
from hypothesis import given, settings
from hypothesis import strategies as st

from dpo.config.schema import ObjectiveConfig
from dpo.data.formats import compare
from dpo.data.formats.convert import Converter, convert_rows, require_used
from dpo.data.formats.settings import FormatSettings
from dpo.data.pair import Dropped
from dpo.data.read.files import Row
from dpo.errors import DataError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("kind", "pairs"),
    [
        ("all", [("c", "b", 1.0), ("c", "d", 1.0), ("c", "a", 2.0), ("b", "a", 1.0), ("d", "a", 1.0)]),
        ("best_worst", [("c", "a", 2.0)]),
        ("best_rest", [("c", "b", 1.0), ("c", "d", 1.0), ("c", "a", 2.0)]),
    ],
)
def test_a_list_gives_pairs_and_ties_give_none(kind: str, pairs: list[tuple[str, str, float]]) -> None:
    row = {"prompt": "q", "responses": ["a", "b", "c", "d"], "scores": [1, 2, 3, 2]}
    assert told(convert(row, ranked_pairs=kind)) == pairs


@settings(deadline=None, database=None)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=6))
def test_every_pair_of_a_list_is_in_order_and_none_is_lost(scores: list[int]) -> None:
    row = {"prompt": "q", "responses": [f"{score} {i}" for i, score in enumerate(scores)], "scores": scores}
    found = convert(row)
    better = sum(a > b for a in scores for b in scores)
    if not better:
        assert isinstance(found, Dropped)
        return
    assert len({(c, r) for c, r, _ in told(found)}) == len(found) == better
    assert all(int(c[0]) - int(r[0]) == margin > 0 for c, r, margin in told(found))


def used(converters: list[Converter]) -> None:
    require_used([(converter.format.name, converter.unused) for converter in converters])


def test_blank_equal_and_unscored_answers_are_left_out_and_counted() -> None:
    found = convert({"prompt": "q", "responses": ["a", " ", "b", "c", "a"], "scores": [1, 9, 2, None, 3]})
    assert told(found) == [("a", "b", 1.0), ("b", "a", 1.0)]
    assert {pair.remarks for pair in found} == {(compare.BLANK, compare.UNSCORED, compare.EQUAL)}


def test_a_single_answer_is_dropped() -> None:
    result = converter(RANKED).pairs(Row(source="a:1", values={**RANKED, "responses": ["a"], "scores": [1]}))
    assert isinstance(result, Dropped)
    assert result.reason == "a single answer"


@pytest.mark.parametrize(
    ("scores", "margin", "remarks"),
    [
        ((8, 6), 2.0, ()),
        ((6, 8), -2.0, (compare.CONTRADICTS,)),
        ((7, 7), 0.0, (compare.TIE,)),
        ((7, None), None, ()),
        (("N/A", 5), None, ()),
    ],
)
def test_scores_are_the_margin_and_are_held_against_the_label(
    scores: tuple[Any, Any], margin: float | None, remarks: tuple[str, ...]
) -> None:
    (pair,) = convert({**MESSAGES, "score_chosen": scores[0], "score_rejected": scores[1]})
    assert (pair.margin, pair.remarks) == (margin, remarks)


def test_the_margin_column_comes_before_the_scores() -> None:
    (pair,) = convert({**MESSAGES, "score_chosen": 9, "score_rejected": 1, "margin": 0.5})
    assert pair.margin == 0.5


def dimensions(helpfulness: tuple[float, float], length: tuple[float, float]) -> dict[str, Any]:
    sides = {"helpfulness": helpfulness, "length": length}
    return {name: dict(zip(("chosen", "rejected"), values, strict=True)) for name, values in sides.items()}


AGAINST = {**STRINGS, "dimensions": dimensions((3, 5), (1, 0)), "margin": 7}
WITH = {**STRINGS, "dimensions": dimensions((5, 3), (1, 0)), "margin": 7}


@pytest.mark.parametrize(
    ("row", "objective", "pair", "remarks"),
    [
        (WITH, {}, ("c", "r", 7.0), ()),
        (WITH, {"margin": True}, ("c", "r", 1.5), ()),
        (AGAINST, {}, ("r", "c", -7.0), (compare.OBJECTIVE_SWAPPED,)),
        (AGAINST, {"margin": True}, ("r", "c", 2.5), (compare.OBJECTIVE_SWAPPED,)),
        (AGAINST, {"contradicts": "keep"}, ("c", "r", 7.0), (compare.OBJECTIVE_KEPT,)),
        (AGAINST, {"contradicts": "keep", "margin": True}, ("c", "r", -2.5), (compare.OBJECTIVE_KEPT,)),
    ],
)
def test_weighted_dimensions_decide(
    row: dict[str, Any], objective: dict[str, Any], pair: tuple[str, str, float], remarks: tuple[str, ...]
) -> None:
    weights = ObjectiveConfig(weights={"helpfulness": 1, "length": -0.5}, **objective)
    (found,) = convert(row, objective=weights)
    assert told([found]) == [pair]
    assert found.remarks == remarks


def test_a_pair_against_the_objective_is_dropped_where_that_is_asked() -> None:
    result = convert(AGAINST, objective=ObjectiveConfig(weights={"helpfulness": 1}, contradicts="drop"))
    assert isinstance(result, Dropped)
    assert result.reason == compare.OBJECTIVE_DROPPED


def test_dimensions_follow_the_label_of_two_answers_in_no_order() -> None:
    row = {"prompt": "q", "response_a": "a", "response_b": "b", "winner": "b", "dimensions": dimensions((3, 5), (0, 0))}
    objective = ObjectiveConfig(weights={"helpfulness": 1})
    assert told(convert(row, objective=objective)) == [("a", "b", None)]  # "b" is chosen, and the worse by 2


def test_reference_log_probabilities_change_sides_with_the_answers() -> None:
    row = {**AGAINST, "ref_chosen_logps": -1, "ref_rejected_logps": -2}
    (pair,) = convert(row, objective=ObjectiveConfig(weights={"helpfulness": 1}))
    assert pair.reference == (-2.0, -1.0)


def test_a_row_that_lacks_a_weighted_dimension_keeps_its_label() -> None:
    reading = converter(WITH, objective=ObjectiveConfig(weights={"helpfulness": 1}))
    (pair,) = reading.pairs(
        Row(source="a:1", values={**AGAINST, "dimensions": {"length": {"chosen": 1, "rejected": 0}}})
    )
    assert (told([pair]), pair.remarks) == ([("c", "r", 7.0)], (compare.NO_DIMENSIONS,))


def test_a_dimension_that_no_row_has_is_an_error() -> None:
    with pytest.raises(DataError, match=r"names helpfullness, which no row has; the dimensions are: helpfulness"):
        converter(WITH, objective=ObjectiveConfig(weights={"helpfullness": 1}))


def test_an_objective_without_any_dimension_is_an_error_unless_another_source_has_some() -> None:
    objective = ObjectiveConfig(weights={"helpfulness": 1})
    without = converter(RANKED, objective=objective)
    assert told(without.pairs(Row(source="a:1", values=RANKED)))[0] == (
        "c",
        "b",
        1.0,
    )  # by its scores, as without the setting
    used([without, converter(WITH, objective=objective)])
    with pytest.raises(DataError, match=r"data\.objective\.weights would change nothing"):
        used([without])


def test_attributes_of_helpsteer_by_weight(tmp_path: Path) -> None:
    rows = [{**HELPSTEER[0], "verbosity": 4}, {**HELPSTEER[1], "verbosity": 0}]
    objective = ObjectiveConfig(weights={"helpfulness": 1, "verbosity": -0.5}, margin=True)
    found = convert_rows(write(tmp_path / "a.jsonl", rows), FormatSettings(objective=objective))
    assert told(found.pairs) == [("r", "c", 1.0)]
    note = "answers compared by 1 helpfulness + -0.5 verbosity, which is their margin too (data.objective.weights)"
    assert note in found.converter.describe()


def test_annotations_of_ultrafeedback_by_weight() -> None:
    row = {
        "instruction": "q",
        "completions": [completion("a", 9, "2"), completion("b", 3, "4"), completion("c", 1, "N/A")],
    }
    found = convert(row, objective=ObjectiveConfig(weights={"helpfulness": 2}, margin=True))
    assert told(found) == [("b", "a", 4.0)]
    assert found[0].remarks == (compare.NO_DIMENSIONS,)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "responses": ["a", "b"], "dimensions": {"helpfulness": [2, 3], "length": [0, 1]}},
        {"prompt": "q", "answers": [{"text": t, "dimensions": {"helpfulness": n}} for t, n in (("a", 2), ("b", 3))]},
    ],
)
def test_dimensions_alone_order_a_list(row: dict[str, Any]) -> None:
    assert told(convert(row, objective=ObjectiveConfig(weights={"helpfulness": 1}, margin=True))) == [("b", "a", 1.0)]
    assert isinstance(convert(row), Dropped)  # without weights nothing says which is better


def test_both_labels_of_saferlhf_by_weight() -> None:
    objective = ObjectiveConfig(weights={"better": 1, "safer": 2}, margin=True)
    assert told(convert(SAFER, objective=objective)) == [("b", "a", 1.0)]
