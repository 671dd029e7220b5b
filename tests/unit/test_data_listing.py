"""Which files a path means."""

import json
import logging
from pathlib import Path

import pytest

from dpo.data.read.files import read_rows
from dpo.data.read.listing import input_files, suffix_of
from dpo.data.read.origin import Origin, Row
from dpo.errors import DataError


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"file": name, "n": 1}) + "\n")
    return folder


def labels(path: Path | str, split: str = "train") -> list[str]:
    return [file.label for file in input_files(Origin(path=str(path), split=split))]


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.jsonl", ".jsonl"),
        ("a.JSON.GZ", ".json"),
        ("a.csv.zst", ".csv"),
        ("a.parquet", ".parquet"),
        ("a.parquet.gz", ""),
        ("a.txt", ""),
        ("a.gz", ""),
        ("jsonl", ""),
    ],
)
def test_the_suffix_of_a_name(name: str, suffix: str) -> None:
    assert suffix_of(name) == suffix


def test_a_glob_matches_files_labelled_by_their_place(tmp_path: Path) -> None:
    fill(tmp_path, "x/b.jsonl", "x/a.jsonl", "y/c.jsonl", "y/readme.md")
    assert labels(tmp_path / "x" / "*.jsonl") == ["a.jsonl", "b.jsonl"]
    assert labels(tmp_path / "*" / "*") == ["x/a.jsonl", "x/b.jsonl", "y/c.jsonl"]
    assert labels(tmp_path / "**" / "*.jsonl") == ["x/a.jsonl", "x/b.jsonl", "y/c.jsonl"]
    rows = list(read_rows(Origin(path=str(tmp_path / "*" / "*"), limit=2)))
    assert [row.values["file"] for row in rows if isinstance(row, Row)] == ["x/a.jsonl", "x/b.jsonl"]


def test_a_glob_that_matches_nothing_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"matches no .*set data\.path"):
        labels(fill(tmp_path, "a.md") / "*")


def test_a_file_whose_name_has_signs_of_a_glob_is_a_file(tmp_path: Path) -> None:
    assert labels(fill(tmp_path, "a[1].jsonl") / "a[1].jsonl") == ["a[1].jsonl"]


def test_a_folder_without_splits_is_read_whole(tmp_path: Path) -> None:
    assert labels(fill(tmp_path, "b.jsonl", "a.json", "c.txt")) == ["a.json", "b.jsonl"]
    assert labels(fill(tmp_path / "one", "test-00000-of-00002.jsonl", "test-00001-of-00002.jsonl")) == [
        "test-00000-of-00002.jsonl",
        "test-00001-of-00002.jsonl",
    ]
    with pytest.raises(DataError, match="named after the split dev"):
        labels(tmp_path, split="dev")


def test_of_a_folder_with_splits_one_is_read_and_the_log_says_which(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    fill(tmp_path, "train.jsonl", "test.jsonl")
    assert labels(tmp_path) == ["train.jsonl"]
    assert labels(tmp_path, "test") == ["test.jsonl"]
    assert "test.jsonl; not read: train.jsonl" in caplog.messages[-1]
    shards = [f"{split}-0000{n}-of-00002-a1b2.jsonl" for split in ("train_prefs", "test_prefs") for n in (0, 1)]
    fill(tmp_path / "hub", *shards, "train_sft-00000-of-00001.jsonl")
    assert labels(tmp_path / "hub", "train_prefs") == shards[:2]
    with pytest.raises(DataError, match=r"named after the split train.*Set data\.split"):
        labels(tmp_path / "hub", "train")


def test_a_folder_of_folders_names_a_file_further_down(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no .*further down: .*a\.jsonl"):
        labels(fill(tmp_path, "data/a.jsonl"))


def test_what_datasets_saved(tmp_path: Path) -> None:
    import datasets

    one = datasets.Dataset.from_list([{"a": n, "b": "x"} for n in range(4)])
    one.save_to_disk(str(tmp_path / "one"), num_shards=2)
    found = list(read_rows(Origin(path=str(tmp_path / "one"))))
    assert [row.values["a"] for row in found if isinstance(row, Row)] == [0, 1, 2, 3]
    assert found[0].source == "data-00000-of-00002.arrow:row 1"

    datasets.DatasetDict({"train": one, "test": one.select([3])}).save_to_disk(str(tmp_path / "two"))
    (row,) = read_rows(Origin(path=str(tmp_path / "two"), split="test"))
    assert (row.source, isinstance(row, Row)) == ("test/data-00000-of-00001.arrow:row 1", True)
    with pytest.raises(DataError, match=r"no split 'dev', it has train, test; set data\.split"):
        labels(tmp_path / "two", "dev")
    (tmp_path / "one" / "state.json").write_text("{")
    with pytest.raises(DataError, match=r"state\.json"):
        labels(tmp_path / "one")


def test_labels_of_two_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    path = str(fill(tmp_path, "a.jsonl") / "a.jsonl")
    assert [file.label for file in input_files(Origin(path=path, label=path))] == [path]
    assert [file.label for file in input_files(Origin(path=str(tmp_path), label="x"))] == ["x/a.jsonl"]
