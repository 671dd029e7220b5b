"""Several sources: their names, their share of an epoch, and every row accounted for."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from data_prepared import prepared, write

from dpo.build_groups import build_groups
from dpo.config.losses import LossConfig, SftLossConfig, SigmoidLossConfig
from dpo.config.schema import DataConfig, RunConfig, SourceConfig
from dpo.data.read.sources import source_names, training_origins
from dpo.errors import DataError
from dpo.losses.loss import Loss


def rows(count: int, name: str) -> list[dict[str, Any]]:
    return [{"prompt": f"{name} {n}", "chosen": "yes", "rejected": "no"} for n in range(count)]


def test_names_are_made_from_paths_and_never_the_same() -> None:
    paths = ["x/a.jsonl.gz", "y/a.json", "owner/set", "data/", "pairs/*.jsonl", "own.jsonl"]
    sources = [*(SourceConfig(path=path) for path in paths), SourceConfig(path="b.jsonl", name="own")]
    names = source_names(sources)
    assert names == ["a", "a-2", "owner/set", "data", "pairs", "own-2", "own"]


def test_every_source_brings_its_own_settings_and_takes_the_others_from_data() -> None:
    sources = [
        SourceConfig(path="x/a.jsonl", format="strings"),
        SourceConfig(path="y/a.jsonl"),
        SourceConfig(path="owner/set", split="test", revision="v1", subset="s", data_dir="d"),
    ]
    first, second, third = training_origins(DataConfig(sources=sources, format="messages", split="dev", limit=5))
    assert (first.format, second.format, third.format) == ("strings", "messages", "messages")
    assert (first.label, second.label, third.label) == ("x/a.jsonl", "y/a.jsonl", None)
    assert (third.split, third.revision, third.subset, third.data_dir) == ("test", "v1", "s", "d")
    assert (first.split, first.limit) == ("dev", 5)
    assert third.setting == "data.sources[2].path" and third.split_setting == "data.sources[2].split"


def test_pairs_know_their_source_and_an_epoch_sees_each_as_often_as_asked(tmp_path: Path) -> None:
    sources = [
        SourceConfig(path=write(tmp_path / "a.jsonl", rows(40, "a")), weight=0.5),
        SourceConfig(path=write(tmp_path / "b.jsonl", rows(30, "b")), name="second", weight=2.5),
        SourceConfig(path=write(tmp_path / "c.jsonl", rows(10, "c")), count=25),
        SourceConfig(path=write(tmp_path / "d.jsonl", [*rows(8, "d"), {"prompt": "d", "chosen": "", "rejected": "n"}])),
    ]
    result = prepared(DataConfig(sources=sources), 0.0, tmp_path / "cache")
    assert (result.rows_read, result.rejected) == (89, 1)
    assert Counter(pair.dataset for pair in result.train) == {"a": 40, "second": 30, "c": 10, "d": 8}
    assert [note.partition(": format")[0] for note in result.notes[:2]] == [f"data: {s.path}" for s in sources[:2]]
    seen = Counter(result.train[row].dataset for rows in result.passes for row in rows)
    assert seen == {"a": 20, "second": 75, "c": 25, "d": 8}
    assert all(len(set(rows)) == len(rows) for rows in result.passes), "a repetition stands in another pass"
    (line,) = [note for note in result.notes if "second" in note]
    assert "30 training pairs, 75 per epoch, 58.6 % of it" in line


def test_the_mix_counts_the_pairs_that_fit(tmp_path: Path) -> None:
    long = {"prompt": "x" * 500, "chosen": "yes", "rejected": "no"}
    sources = [
        SourceConfig(path=write(tmp_path / "a.jsonl", [*rows(5, "a"), long]), count=12),
        SourceConfig(path=write(tmp_path / "b.jsonl", rows(3, "b"))),
    ]
    result = prepared(DataConfig(sources=sources), 0.0, tmp_path / "cache", max_length=200)
    seen = Counter(result.train[row].source for rows in result.passes for row in rows)
    assert sorted(seen.values()) == [1, 1, 1, 2, 2, 2, 3, 3]
    assert (result.rows_read, result.dropped) == (9, 1)


@pytest.mark.parametrize("loss", [SigmoidLossConfig(), SftLossConfig()])
def test_a_pair_that_is_seen_twice_stands_in_two_groups(tmp_path: Path, loss: LossConfig) -> None:
    config = RunConfig(loss=loss)
    same = [{"prompt": "p", "chosen": f"yes {n}", "rejected": "no"} for n in range(3)]  # three answers to one prompt
    config.data.sources = [SourceConfig(path=write(tmp_path / "a.jsonl", same), weight=2)]
    groups = build_groups(config, prepared(config.data, 0.0, tmp_path / "cache"), Loss(loss)).train
    found = [group.pair_ids for group in groups]
    assert sorted(map(len, found)) == ([3, 3] if loss.name == "sigmoid" else [1] * 6)
    assert set(Counter(one for ids in found for one in ids).values()) == {2}


def test_one_source_alone_is_seen_once(tmp_path: Path) -> None:
    result = prepared(DataConfig(path=write(tmp_path / "a.jsonl", rows(7, "a"))), 0.0, tmp_path / "cache")
    assert [rows.tolist() for rows in result.passes] == [list(range(7))]
    assert {pair.dataset for pair in result.train} == {"a"}


def test_metrics_are_kept_apart_where_there_are_several_sources(tmp_path: Path) -> None:
    """Of the training or of the held-out data; one source and held-out pairs of another are apart already."""
    a, b, e = (write(tmp_path / f"{name}.jsonl", rows(6, name)) for name in "abe")
    several = DataConfig(sources=[SourceConfig(path=a), SourceConfig(path=b)], eval_path=e)
    assert prepared(several, 0.0, tmp_path / "cache").datasets == ["a", "b", "e"]
    assert prepared(DataConfig(path=a, eval_path=e), 0.0, tmp_path / "cache").datasets == []


def test_prompts_of_all_sources_are_split_together(tmp_path: Path) -> None:
    other = [{**row, "chosen": "indeed"} for row in rows(60, "a")]  # the same prompts with another answer
    paths = [write(tmp_path / "a.jsonl", rows(60, "a")), write(tmp_path / "b.jsonl", other)]
    sets = prepared(DataConfig(sources=[SourceConfig(path=path) for path in paths]), 0.3, tmp_path / "cache")
    assert len(sets.held_out) > 10
    assert not {*sets.train.column("prompt").tolist()} & {*sets.held_out.column("prompt").tolist()}
    assert f"{len(sets.train)} train / {len(sets.held_out)} held-out" in sets.notes[2]


def test_a_pair_that_comes_twice_is_dropped_across_sources(tmp_path: Path) -> None:
    paths = [write(tmp_path / "x" / "a.jsonl", rows(6, "a")), write(tmp_path / "y" / "a.jsonl", rows(8, "a"))]
    sources = [SourceConfig(path=path) for path in paths]
    sets = prepared(DataConfig(sources=sources), 0.0, tmp_path / "cache")
    assert len(sets.train) == 8
    assert (sets.rows_read, sets.dropped) == (14, 6)
    first = next(sets.unused_pairs())
    assert (first.source, first.reason) == (f"{paths[1]}:1", "duplicate")
    assert first.detail == f"the same pair is {paths[0]}:1"
    assert any("6 duplicate" in note for note in sets.notes)
    assert len(prepared(DataConfig(sources=sources, duplicates="keep"), 0.0, tmp_path / "cache").train) == 14


def test_duplicates_within_the_held_out_data_are_dropped_too(tmp_path: Path) -> None:
    held = write(tmp_path / "e.jsonl", [*rows(2, "e"), *rows(2, "e")])
    config = DataConfig(path=write(tmp_path / "a.jsonl", rows(3, "a")), eval_path=held)
    sets = prepared(config, 0.0, tmp_path / "cache")
    assert (len(sets.train), len(sets.held_out), sets.dropped, sets.rows_read) == (3, 2, 2, 7)


def test_a_source_that_is_missing_names_its_place_in_the_list(tmp_path: Path) -> None:
    sources = [
        SourceConfig(path=write(tmp_path / "a.jsonl", rows(3, "a"))),
        SourceConfig(path=str(tmp_path / "no.csv")),
    ]
    with pytest.raises(DataError, match=r"set data\.sources\[1\]\.path"):
        prepared(DataConfig(sources=sources), 0.0, tmp_path / "cache")
