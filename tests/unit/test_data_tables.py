"""Tables: Parquet, Arrow, and text with separators."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from dpo.data.pair import Reject
from dpo.data.read import batches
from dpo.data.read.files import read_rows
from dpo.data.read.origin import Origin, Row
from dpo.errors import DataError

ROWS = [{"prompt": f"p{n}", "chosen": [{"role": "assistant", "content": "c" * n}]} for n in range(5)]


def read(path: Path) -> list[Row | Reject]:
    return list(read_rows(Origin(path=str(path))))


def table() -> pa.Table:
    return pa.Table.from_pylist(ROWS)


def write_stream(found: pa.Table, path: Path) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, found.schema) as writer:
        writer.write_table(found, max_chunksize=2)


WRITERS: dict[str, Any] = {
    "a.parquet": lambda found, path: pq.write_table(found, path, row_group_size=2),
    "a.feather": lambda found, path: pyarrow.feather.write_feather(found, str(path), chunksize=2),
    "a.arrow": write_stream,
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("most", [1, 3, 2**26])
def test_tables_are_read_in_bounded_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, most: int
) -> None:
    monkeypatch.setattr(batches, "MOST_BYTES", most)
    WRITERS[name](table(), tmp_path / name)
    found = read(tmp_path / name)
    assert [row.values for row in found if isinstance(row, Row)] == ROWS
    assert [row.source for row in found] == [f"{name}:row {n}" for n in range(1, 6)]


def test_long_cells_are_converted_few_at_a_time() -> None:
    assert batches.batch_rows(10 * 2**20 * 100, 100) == 6
    assert batches.batch_rows(100, 100) == batches.MOST_ROWS
    assert batches.batch_rows(2**40, 2) == 1
    assert batches.batch_rows(0, 0) == 1


@pytest.mark.parametrize("name", WRITERS)
def test_a_cell_that_is_no_utf8_rejects_its_row_alone(tmp_path: Path, name: str) -> None:
    cells = pa.array([b"good", b"b\xffd", b"good too"], pa.binary())
    text = pa.StringArray.from_buffers(len(cells), *cells.buffers()[1:])
    WRITERS[name](pa.table({"a": text}), tmp_path / name)
    first, second, third = read(tmp_path / name)
    assert isinstance(first, Row) and isinstance(third, Row)
    assert isinstance(second, Reject)
    assert (second.source, second.reason) == (f"{name}:row 2", "invalid UTF-8")


@pytest.mark.parametrize("name", WRITERS)
def test_a_table_cut_anywhere_is_one_error(tmp_path: Path, name: str) -> None:
    WRITERS[name](table(), tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    for end in (*range(0, len(whole) - 1, 8), len(whole) - 1):  # what a stream holds is aligned to 8 bytes
        (tmp_path / name).write_bytes(whole[:end])
        with pytest.raises(DataError, match=f"{name} cannot be read"):
            read(tmp_path / name)


def test_two_columns_of_one_name_are_an_error(tmp_path: Path) -> None:
    double = pa.table([pa.array(["x"]), pa.array(["y"])], names=["a", "a"])
    write_stream(double, tmp_path / "a.arrow")
    (tmp_path / "a.csv").write_text("a,a\n1,2\n")
    for name in ("a.arrow", "a.csv"):
        with pytest.raises(DataError, match="two columns named 'a'"):
            read(tmp_path / name)


def csv(path: Path, text: str | bytes) -> list[Row | Reject]:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read(path)


@pytest.mark.parametrize(("name", "separator"), [("a.csv", ","), ("a.csv", ";"), ("a.csv", "\t"), ("a.tsv", "\t")])
def test_separated_text(tmp_path: Path, name: str, separator: str) -> None:
    text = f'prompt{separator}chosen\r\n"two\nlines"{separator}"say ""yes"""\r\n\r\nq{separator}\r\n'
    first, second = csv(tmp_path / name, b"\xef\xbb\xbf" + text.encode())
    assert isinstance(first, Row) and isinstance(second, Row)
    assert (first.values, first.source) == ({"prompt": "two\nlines", "chosen": 'say "yes"'}, f"{name}:2")
    assert (second.values, second.source) == ({"prompt": "q", "chosen": None}, f"{name}:5")


def test_every_cell_is_text_and_an_empty_one_absent(tmp_path: Path) -> None:
    (row,) = csv(tmp_path / "a.csv", 'a,b,c,d\n7,,"[{""role"": ""user""}]"," "\n')
    assert isinstance(row, Row)
    assert list(row.values.values()) == ["7", None, '[{"role": "user"}]', " "]


def test_columns_without_a_name_are_passed_over(tmp_path: Path) -> None:
    """The index that pandas writes, and the empty columns at the right of a spreadsheet."""
    (row,) = csv(tmp_path / "a.csv", ",a,b,,\n0,x,y,,\n")
    assert isinstance(row, Row)
    assert row.values == {"a": "x", "b": "y"}


@pytest.mark.parametrize("header", [b"a,b\xff\n", b'"a" b,c\n'])
def test_a_header_that_cannot_be_read_is_an_error(tmp_path: Path, header: bytes) -> None:
    with pytest.raises(DataError, match="the header cannot be read"):
        csv(tmp_path / "a.csv", header + b"1,2\n")


@pytest.mark.parametrize(
    ("line", "reason", "detail"),
    [
        (b"only one", "wrong number of cells", "1 cells, and the header names 2"),
        (b"1,2,3", "wrong number of cells", "3 cells"),
        (b'"quoted" and not,2', "invalid CSV", "expected after"),
        (b"b\xffd,2", "invalid UTF-8", "byte 0xff at character 2 of a"),
    ],
)
def test_a_bad_record_is_a_reject_and_the_next_one_is_read(
    tmp_path: Path, line: bytes, reason: str, detail: str
) -> None:
    bad, good = csv(tmp_path / "a.csv", b"a,b\n" + line + b"\n3,4\n")
    assert isinstance(bad, Reject) and isinstance(good, Row)
    assert (bad.source, bad.reason, good.source) == ("a.csv:2", reason, "a.csv:3")
    assert detail in bad.detail


def test_a_quote_without_end_is_an_error_since_it_swallows_rows(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the quote opened in the row at line 3 is never closed"):
        csv(tmp_path / "a.csv", 'a,b\n1,2\n"3,4\n5,6\n')


def test_a_cell_of_ten_megabytes(tmp_path: Path) -> None:
    (row,) = csv(tmp_path / "a.csv", "a,b\n" + "x" * 10_000_000 + ",\0")
    assert isinstance(row, Row)
    assert (len(row.values["a"]), row.values["b"]) == (10_000_000, "\0")


def test_a_header_alone_or_nothing_holds_no_rows(tmp_path: Path) -> None:
    assert csv(tmp_path / "a.csv", "a,b\n") == csv(tmp_path / "a.csv", "") == []
