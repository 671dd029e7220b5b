"""JSON documents read piece by piece: the same rows wherever the pieces end, and one bad row does not hide the next."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dpo.data.pair import Reject
from dpo.data.read import scanner
from dpo.data.read.files import read_rows
from dpo.data.read.origin import Origin, Row
from dpo.errors import DataError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
ROWS = st.lists(st.dictionaries(st.text(max_size=5), VALUES, min_size=2, max_size=4), max_size=5)
WRAPPERS = [
    "%s",
    '{"data": %s}',
    '{"version": "1", "n": -1.5, "data" : %s, "more": {"x": [1]}}',
    '{"a": {}, "data": %s}',
]


def read(path: Path, text: str | bytes) -> list[Row | Reject]:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return list(read_rows(Origin(path=str(path))))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=ROWS,
    chunk=st.integers(1, 40),
    escaped=st.booleans(),
    indent=st.sampled_from([None, 1]),
    wrapper=st.sampled_from(WRAPPERS),
)
def test_rows_are_those_of_the_whole_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **drawn: Any) -> None:
    monkeypatch.setattr(scanner, "CHUNK", drawn["chunk"])
    text = drawn["wrapper"] % json.dumps(drawn["rows"], ensure_ascii=drawn["escaped"], indent=drawn["indent"])
    found = read(tmp_path / "a.json", text.encode("utf-8", "surrogatepass"))
    assert [row.values for row in found if isinstance(row, Row)] == drawn["rows"]
    assert [row.source for row in found] == [f"a.json:row {n + 1}" for n in range(len(drawn["rows"]))]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, chunk=st.integers(1, 40), data=st.data())
def test_a_document_that_is_cut_gives_the_rows_before_the_cut_and_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[Any], chunk: int, data: st.DataObject
) -> None:
    monkeypatch.setattr(scanner, "CHUNK", chunk)
    text = json.dumps(rows)
    cut = data.draw(st.integers(1, len(text) - 1))
    (tmp_path / "a.json").write_text(text[:cut])
    found: list[Any] = []
    with pytest.raises(DataError, match="broken JSON at line 1, column"):
        found.extend(row.values for row in read_rows(Origin(path=str(tmp_path / "a.json"))))
    assert found == rows[: len(found)]
    whole = sum(len(json.dumps(rows[:n])) <= cut for n in range(1, len(rows)))  # ended by a comma before the cut
    assert len(found) >= whole


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize(
    "text", ['[{"a": 1},\n{"a": 2}]', '{\n"a": 1\n}\n{\n"a": 2\n}', '[\n\n{"a": 1}, {"a": 2}\n]\n']
)
def test_the_content_decides_not_the_name(tmp_path: Path, name: str, text: str) -> None:
    if text.startswith("{"):
        text = text.replace("1", '1, "b": 1')
    assert [row.source for row in read(tmp_path / name, text)] == [f"{name}:row 1", f"{name}:row 2"]


def test_one_object_is_one_row_and_an_unknown_wrapper_an_error(tmp_path: Path) -> None:
    (row,) = read(tmp_path / "a.json", '{"chosen": "a", "rejected": "b"}')
    assert isinstance(row, Row)
    with pytest.raises(DataError, match="expected"):
        read(tmp_path / "a.json", '{"train": [{"chosen": "a"}]}')


REFUSED = [
    ('{"a": 1, "a": 2}', "duplicate key"),
    ('{"a": %s}' % ("9" * 5000), "invalid JSON"),
    ('{"a": "x\ty"}', "invalid JSON"),
    ("17", "row is not an object"),
]


@pytest.mark.parametrize("chunk", [3, 2**20])
@pytest.mark.parametrize(("bad", "reason"), [*REFUSED, (b'{"a": "\xff"}', "invalid UTF-8")])
def test_a_row_that_is_refused_does_not_hide_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, bad: str | bytes, reason: str
) -> None:
    monkeypatch.setattr(scanner, "CHUNK", chunk)
    element = bad.encode() if isinstance(bad, str) else bad
    first, second, third = read(tmp_path / "a.json", b'[{"b": "\xc3\xa9"},' + element + b', {"c": 3}]')
    assert isinstance(first, Row) and isinstance(third, Row)
    assert (first.values, third.values) == ({"b": "é"}, {"c": 3})
    assert isinstance(second, Reject)
    assert (second.source, second.reason) == ("a.json:row 2", reason)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('[{"a": 1},\n {"a": nul}]', "line 2, column 8"),
        ('[{"a": 1}\n {"a": 2}]', "line 2, column 2"),
        ('[{"a": 1}]\n\n[', "line 3, column 1"),
        ('[{"a": 1},]', "line 1, column 11"),
        ('{"data": [{"a": 1}]', "line 1, column 20"),
    ],
)
@pytest.mark.parametrize("chunk", [1, 2**20])
def test_broken_syntax_names_line_and_column_of_the_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, place: str, chunk: int
) -> None:
    monkeypatch.setattr(scanner, "CHUNK", chunk)
    with pytest.raises(DataError, match=place):
        read(tmp_path / "a.json", text)


def test_memory_does_not_grow_with_the_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanner, "CHUNK", 2**14)
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"a": "x" * 1000, "n": n} for n in range(4000)], indent=1))
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_rows(Origin(path=str(path)))) == 4000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**20, "of a file of 4 MB"
