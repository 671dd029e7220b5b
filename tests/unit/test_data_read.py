"""Reading rows: every kind of file, and what is said when one cannot be read."""

import gzip
import json
import time
from pathlib import Path

import pytest

from dpo.data.pair import Reject
from dpo.data.read import hub
from dpo.data.read.files import Origin, Row, is_local, read_rows
from dpo.errors import DataError


def read(path: Path | str, **settings: object) -> list[Row | Reject]:
    return list(read_rows(Origin(path=str(path), **settings)))  # type: ignore[arg-type]


def sources(path: Path, **settings: object) -> list[str]:
    return [row.source for row in read(path, **settings)]


def write(path: Path, text: str | bytes) -> Path:
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if path.name.endswith(".gz") else data)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.jsonl.gz"])
def test_lines_keep_their_numbers_and_blank_lines_are_no_rows(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, '{"a": 1}\n\n{"a": 2}\r\n')
    assert [(row.values["a"], row.source) for row in read(path)] == [(1, f"{name}:1"), (2, f"{name}:3")]


@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
@pytest.mark.parametrize("wrap", ["[%s]", '{"data": [%s]}'])
def test_json_arrays_number_their_rows_from_one(tmp_path: Path, name: str, wrap: str) -> None:
    path = write(tmp_path / name, wrap % '{"a": 1}, {"a": 2}')
    assert [(row.values["a"], row.source) for row in read(path)] == [(1, f"{name}:row 1"), (2, f"{name}:row 2")]


def test_a_json_file_with_one_object_per_line_is_read_as_lines(tmp_path: Path) -> None:
    assert sources(write(tmp_path / "a.json", '{"a": 1}\n{"a": 2}\n')) == ["a.json:1", "a.json:2"]


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    assert read(write(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"a": 1}\n'))[0].values == {"a": 1}
    assert read(write(tmp_path / "a.json", b'\xef\xbb\xbf[{"a": 1}]'))[0].values == {"a": 1}


def test_parquet(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"prompt": "p", "chosen": [{"role": "assistant", "content": "c"}]}, {"prompt": "q", "chosen": []}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    found = read(tmp_path / "a.parquet")
    assert [row.values for row in found] == rows
    assert [row.source for row in found] == ["a.parquet:row 1", "a.parquet:row 2"]


def test_a_folder_is_read_file_by_file(tmp_path: Path) -> None:
    write(tmp_path / "b.json", '[{"a": 3}]')
    write(tmp_path / "a.jsonl", '{"a": 1}\n{"a": 2}\n')
    write(tmp_path / "README.md", "no data")
    assert sources(tmp_path) == ["a.jsonl:1", "a.jsonl:2", "b.json:row 1"]


def test_limit_counts_rows_from_the_start(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"a": 1}\nbroken\n{"a": 3}\n')
    assert sources(path, limit=2) == ["a.jsonl:1", "a.jsonl:2"]


@pytest.mark.parametrize(
    ("line", "reason", "detail"),
    [
        (b'{"a": ', "invalid JSON", "column"),
        (b"[1, 2]", "row is not an object", "found [1, 2]"),
        (b"17", "row is not an object", "found 17"),
        (b"null", "row is not an object", "None"),
        (b'{"a": "\xff"}', "invalid UTF-8", "byte 8"),
        (b"[" * 100_000, "invalid JSON", "recursion"),
        (b'{"a": ' + b"9" * 5000 + b"}", "invalid JSON", "digits"),
    ],
)
def test_a_bad_line_is_a_reject_and_the_next_one_is_read(tmp_path: Path, line: bytes, reason: str, detail: str) -> None:
    bad, good = read(write(tmp_path / "a.jsonl", line + b'\n{"a": 1}\n'))
    assert isinstance(bad, Reject)
    assert (bad.source, bad.reason) == ("a.jsonl:1", reason)
    assert detail in bad.detail
    assert isinstance(good, Row)


def test_an_array_element_that_is_no_object_is_a_reject(tmp_path: Path) -> None:
    bad, good = read(write(tmp_path / "a.json", '[3, {"a": 1}]'))
    assert isinstance(bad, Reject)
    assert (bad.source, bad.reason) == ("a.json:row 1", "row is not an object")
    assert isinstance(good, Row)


@pytest.mark.parametrize(
    ("name", "data", "parts"),
    [
        ("a.json", b'[{"a": 1},\n {"a": 2,]', ["a.json", "line 2, column 10"]),
        ("a.json", b'["\xff"]', ["a.json", "UTF-8", "byte 3"]),
        ("a.json", b'{"rows": []}', ["a.json", "expected [{...}, ...]"]),
        ("a.json", b"[" * 100_000, ["a.json", "recursion"]),
        ("a.parquet", b"not parquet", ["a.parquet", "cannot be read"]),
        ("a.txt", b"text", ["a.txt", ".jsonl", "data.path"]),
    ],
)
def test_a_file_broken_as_a_whole_is_one_error(tmp_path: Path, name: str, data: bytes, parts: list[str]) -> None:
    with pytest.raises(DataError) as error:
        read(write(tmp_path / name, data))
    assert all(part in str(error.value) for part in parts), str(error.value)


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.json.gz"])
def test_a_damaged_gzip_file_is_one_error(tmp_path: Path, name: str) -> None:
    whole = gzip.compress(json.dumps([{"a": "x" * n} for n in range(99)]).encode())
    for data in (whole[:-20], b"not gzip"):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=r"a\.json.*cannot be read"):
            read(tmp_path / name)


def test_a_missing_file_names_path_setting_and_near_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "pairs.jsonl", "{}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as error:
        read("pair.jsonl", setting="data.eval_path")
    message = str(error.value)
    assert "no file pair.jsonl" in message
    assert str(tmp_path / "pair.jsonl") in message
    assert "data.eval_path" in message
    assert "pairs.jsonl" in message


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"folder .*nowhere does not exist"):
        read(tmp_path / "nowhere" / "a.jsonl")
    with pytest.raises(DataError, match="holds no"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("path", "local"),
    [("a.jsonl", True), ("x/a.JSON", True), ("/x/y", True), ("./y", True), ("a/b/c", True), ("owner/name", False)],
)
def test_what_is_a_file_and_what_a_hub_name(path: str, local: bool) -> None:
    assert is_local(path) is local


def _unreachable(*args: object, **kwargs: object) -> None:
    raise ConnectionError("[Errno -2] Name or service not known")


def test_an_unreachable_hub_fails_fast_with_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", _unreachable)
    start = time.monotonic()
    with pytest.raises(DataError) as error:
        read("nobody-here/no-such-data-set")
    assert time.monotonic() - start < 15
    message = str(error.value)
    assert "\n" not in message
    for part in (
        "nobody-here/no-such-data-set",
        "is no local file and could not be fetched from the hub",
        "Name or service",
        "data.path=",
    ):
        assert part in message


def test_offline_mode_ends_with_the_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    from huggingface_hub import constants

    seen = []
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", _unreachable)
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: seen.append(constants.HF_HUB_OFFLINE) or [{"a": 1}])
    before = constants.HF_HUB_OFFLINE
    assert list(hub.load("owner/name", "train", None, ("data.path", "data.split"))) == [{"a": 1}]
    assert seen == [True]  # from the local cache
    assert constants.HF_HUB_OFFLINE is before


def test_hub_rows_name_data_set_split_and_row(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    calls = []
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *a, **k: None)
    monkeypatch.setattr(datasets, "load_dataset", lambda path, **k: calls.append((path, k)) or [{"a": 1}, {"a": 2}])
    rows = read("owner/name", split="test", revision="abc", limit=1)
    assert [(row.values, row.source) for row in rows] == [({"a": 1}, "owner/name:test:row 1")]
    assert calls == [("owner/name", {"split": "test", "revision": "abc"})]


def test_an_unknown_split_names_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def load(*args: object, **kwargs: object) -> None:
        raise ValueError("Unknown split \"tset\". Should be one of ['train', 'test'].")

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *a, **k: None)
    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(DataError, match=r"no split 'tset'.*train.*data\.split"):
        read("owner/name", split="tset")
