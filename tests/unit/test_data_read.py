"""Reading rows: every kind of file, and what is said when one cannot be read."""

import bz2
import gzip
import json
import lzma
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dpo.data.pair import Reject
from dpo.data.read import hub
from dpo.data.read.files import read_rows
from dpo.data.read.listing import is_local
from dpo.data.read.origin import Origin, Row
from dpo.errors import DataError


def read(path: Path | str, **settings: object) -> list[Row | Reject]:
    return list(read_rows(Origin(path=str(path), **settings)))  # type: ignore[arg-type]


def sources(path: Path, **settings: object) -> list[str]:
    return [row.source for row in read(path, **settings)]


def write(path: Path, text: str | bytes) -> Path:
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if path.name.endswith(".gz") else data)
    return path


def pack_zstd(data: bytes) -> bytes:
    import pyarrow as pa

    packed: bytes = pa.compress(data, codec="zstd", asbytes=True)
    return packed


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
        (b'{"a": 1, b', "invalid JSON", "character 10 of the line"),
        (b"[1, 2]", "row is not an object", "found [1, 2]"),
        (b"17", "row is not an object", "found 17"),
        (b"null", "row is not an object", "None"),
        (b'{"a": "\xff"}', "invalid UTF-8", "byte 8"),
        (b"[" * 100_000, "invalid JSON", "recursion"),
        (b'{"a": ' + b"9" * 5000 + b"}", "invalid JSON", "digits"),
        (b'{"a": "tab\there"}', "invalid JSON", "control character"),
        (b"\0" * 9, "invalid JSON", "Expecting value"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "duplicate key", "'c'"),
    ],
)
def test_a_bad_line_is_a_reject_and_the_next_one_is_read(tmp_path: Path, line: bytes, reason: str, detail: str) -> None:
    bad, good = read(write(tmp_path / "a.jsonl", line + b'\n{"a": 1}\n'))
    assert isinstance(bad, Reject)
    assert (bad.source, bad.reason) == ("a.jsonl:1", reason)
    assert detail in bad.detail
    assert isinstance(good, Row)


def test_a_last_line_without_end_is_said_to_be_cut(tmp_path: Path) -> None:
    good, bad = read(write(tmp_path / "a.jsonl", '{"a": 1}\n{"a": "hal'))
    assert isinstance(good, Row) and isinstance(bad, Reject)
    assert "may be cut" in bad.detail


def test_ten_megabytes_in_one_field(tmp_path: Path) -> None:
    text = "é" * 5_000_000
    for name in ("a.jsonl", "a.json"):
        path = write(tmp_path / name, json.dumps([{"a": text}] if name == "a.json" else {"a": text}))
        (row,) = read(path)
        assert isinstance(row, Row) and row.values["a"] == text


def test_an_array_element_that_is_no_object_is_a_reject(tmp_path: Path) -> None:
    bad, good = read(write(tmp_path / "a.json", '[3, {"a": 1}]'))
    assert isinstance(bad, Reject)
    assert (bad.source, bad.reason) == ("a.json:row 1", "row is not an object")
    assert isinstance(good, Row)


@pytest.mark.parametrize(
    ("name", "data", "parts"),
    [
        ("a.json", b'[{"a": 1},\n {"a": 2,]', ["a.json", "line 2, column 10"]),
        ("a.json", b"17", ["a.json", "line 1, column 1", "expected [{...}, ...]"]),
        ("a.jsonl", "{}".encode("utf-16"), ["a.jsonl", "UTF-16", "UTF-8"]),
        ("a.json", b'{"rows": []}', ["a.json", "expected [{...}, ...]"]),
        ("a.json", b"[" * 100_000, ["a.json", "recursion"]),
        ("a.parquet", b"not parquet", ["a.parquet", "cannot be read"]),
        ("a.parquet", b"", ["a.parquet", "cannot be read"]),
        ("a.arrow", b"ARROW1\0\0cut", ["a.arrow", "cannot be read"]),
        ("a.feather", b"", ["a.feather", "cannot be read"]),
        ("a.txt", b"text", ["a.txt", ".jsonl", "data.path"]),
    ],
)
def test_a_file_broken_as_a_whole_is_one_error(tmp_path: Path, name: str, data: bytes, parts: list[str]) -> None:
    with pytest.raises(DataError) as error:
        read(write(tmp_path / name, data))
    assert all(part in str(error.value) for part in parts), str(error.value)


PACKERS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": pack_zstd}


@pytest.mark.parametrize("ending", PACKERS)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_compressed_files(tmp_path: Path, name: str, ending: str) -> None:
    text = "a,b\n1,2\n" if name == "a.csv" else '{"a": "1", "b": "2"}\n'
    for file in (f"{name}{ending}", name):  # a name that does not say so either
        (tmp_path / file).write_bytes(PACKERS[ending](text.encode()))
        (row,) = read(tmp_path / file)
        assert isinstance(row, Row)
        assert row.values == {"a": "1", "b": "2"}
        assert row.source.startswith(f"{file}:")


@pytest.mark.parametrize("ending", PACKERS)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_a_damaged_compressed_file_is_one_error(tmp_path: Path, name: str, ending: str) -> None:
    rows = [{"a": random.Random(n).randbytes(40).hex()} for n in range(99)]
    whole = PACKERS[ending]("\n".join(map(json.dumps, rows)).encode())
    for data in (whole[: len(whole) // 2], b"not compressed"):
        (tmp_path / f"{name}{ending}").write_bytes(data)
        with pytest.raises(DataError, match=r"a\.json.*cannot be read"):
            read(tmp_path / f"{name}{ending}")


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
    [
        ("a.jsonl", True),
        ("x/a.JSON", True),
        ("a.csv.zst", True),
        ("/x/y", True),
        ("./y", True),
        ("a/b/c", True),
        ("data/*", True),
        ("owner/name", False),
        ("owner/name.v2", False),
    ],
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
    assert list(hub.load(Origin(path="owner/name"))) == [{"a": 1}]
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


def test_what_chooses_a_part_of_a_hub_data_set_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    calls = []
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *a, **k: None)
    monkeypatch.setattr(datasets, "load_dataset", lambda path, **k: calls.append(k) or [{"a": 1}])
    (row,) = read("owner/name", subset="small", data_dir="part", streaming=True)
    assert row.source == "owner/name:small:part:train:row 1"
    wanted = {"split": "train", "revision": None, "name": "small", "data_dir": "part", "streaming": True}
    assert calls == [wanted]


@pytest.mark.parametrize("streaming", [False, True])
def test_the_library_itself_fetches_and_streams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streaming: bool
) -> None:
    """A folder in the place of the hub: everything but the network."""
    import datasets

    for part, split in (("one", "train"), ("two", "train"), ("two", "test")):
        (tmp_path / "set" / part).mkdir(parents=True, exist_ok=True)
        write(tmp_path / "set" / part / f"{split}.jsonl", f'{{"a": "{part} {split}"}}\n{{"a": "last"}}\n')
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *a, **k: None)
    origin = Origin(path=str(tmp_path / "set"), data_dir="two", split="test", streaming=streaming)
    assert list(hub.load(origin)) == [{"a": "two test"}, {"a": "last"}]
    with pytest.raises(DataError, match=r"no split 'dev'.*set data\.split"):
        hub.load(Origin(path=str(tmp_path / "set"), data_dir="one", split="dev", streaming=streaming))


def test_a_stream_that_breaks_off_is_one_error_after_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def rows() -> Iterator[dict[str, int]]:
        yield {"a": 1}
        raise ConnectionError("reset by peer")

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *a, **k: None)
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: rows())
    found = read_rows(Origin(path="owner/name", streaming=True))
    assert isinstance(next(found), Row)
    with pytest.raises(DataError, match=r"owner/name.*broke off.*reset by peer.*data\.streaming=false"):
        next(found)


def test_an_unknown_subset_names_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def load(*args: object, **kwargs: object) -> None:
        raise ValueError("BuilderConfig 'x' not found. Available: ['a', 'b']")

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *a, **k: None)
    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(DataError, match=r"Available: \['a', 'b'\].*set data\.sources\[1\]\.subset"):
        read("owner/name", subset="x", setting="data.sources[1].path")


def test_a_stream_from_an_unreachable_hub_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", _unreachable)
    with pytest.raises(DataError, match="could not be fetched"):
        read("owner/name", streaming=True)
