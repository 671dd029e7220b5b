"""From the data settings to what is trained on: every row accounted for, and errors that say what to do."""

import json
from pathlib import Path
from typing import Any

import pytest
from data_prepared import prepared, tools, write

from dpo.config.schema import DataConfig
from dpo.data.groups import group_pairs
from dpo.data.pair import Reject
from dpo.data.prepare import data_recipes
from dpo.data.read.origin import Origin
from dpo.data.rejects import Lost, check_rejects, write_rejects
from dpo.data.sets import DataSets
from dpo.errors import DataError

pytestmark = pytest.mark.unit


def rows(count: int, name: str = "q", **change: Any) -> list[dict[str, Any]]:
    return [{"prompt": f"{name}{n}", "chosen": "yes" + "!" * n, "rejected": "no", **change} for n in range(count)]


def test_it_splits_and_notes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [*rows(40), *rows(1, chosen="")])
    sets = prepared(DataConfig(path=path), 0.2, tmp_path)
    assert (sets.rows_read, sets.accepted, sets.rejected, sets.dropped) == (41, 40, 1, 0)
    assert len(sets.train) + len(sets.held_out) == 40 and len(sets.held_out)
    assert [(r.source, r.reason) for r in sets.rejects.first] == [("a.jsonl:41", "empty answer")]
    (note,) = sets.notes
    sides = f"{len(sets.train)} train / {len(sets.held_out)} held-out"
    for part in ("format strings (", "41 rows", sides, "1 empty answer"):
        assert part in note


def test_rows_without_a_preference_are_no_bad_rows_and_pairs_are_remarked_on(tmp_path: Path) -> None:
    scored = [
        {**row, "score_chosen": score, "score_rejected": 5} for row, score in zip(rows(3), (5, 4, 6), strict=True)
    ]
    sets = prepared(DataConfig(path=write(tmp_path / "a.jsonl", scored)), 0, tmp_path)
    assert "of the pairs: 1 scores tie, 1 scores contradict the label" in sets.notes[0]
    judged = [{"instruction": f"q{n}", "output_1": "a", "output_2": "b", "preference": n} for n in (1, 1.5, 2)]
    sets = prepared(DataConfig(path=write(tmp_path / "b.jsonl", judged)), 0, tmp_path)
    assert (len(sets.train), sets.rejected, sets.dropped) == (2, 0, 1)
    assert [reject.source for reject in sets.left_out.first] == ["b.jsonl:2"]
    assert "left out: 1 no preference" in sets.notes[0]


def test_a_list_of_answers_becomes_one_group_with_its_pairs(tmp_path: Path) -> None:
    listed = [{"prompt": "q", "responses": ["a", "b", "c"], "ranks": [2, 1, 3]}]
    sets = prepared(DataConfig(path=write(tmp_path / "a.jsonl", listed)), 0, tmp_path)
    (group,) = group_pairs(sets.train, most=8)
    assert (len(group.responses), group.pairs) == (3, [(0, 1), (0, 2), (1, 2)])
    assert (sets.rows_read, sets.accepted, len(sets.train)) == (1, 1, 3)
    assert {pair.source for pair in sets.train} == {"a.jsonl:1"}


def test_a_setting_without_effect_on_the_data_is_an_error(tmp_path: Path) -> None:
    config = DataConfig(path=write(tmp_path / "a.jsonl", rows(3)), ranked_pairs="best_rest")
    with pytest.raises(DataError, match=r"data\.ranked_pairs=best_rest would change nothing.*strings"):
        prepared(config, 0, tmp_path)


def test_one_prompt_only_is_said_to_leave_nothing_held_out(tmp_path: Path) -> None:
    sets = prepared(DataConfig(path=write(tmp_path / "a.jsonl", rows(2, prompt="same"))), 0.5, tmp_path)
    assert (len(sets.train), len(sets.held_out)) == (2, 0)
    assert "data.eval_path" in sets.notes[-1]


def test_an_eval_file_takes_its_prompts_from_training(tmp_path: Path) -> None:
    config = DataConfig(path=write(tmp_path / "a.jsonl", rows(10)), eval_path=write(tmp_path / "e.jsonl", rows(3)))
    sets = prepared(config, 0.5, tmp_path)
    assert (len(sets.train), len(sets.held_out), sets.rows_read) == (7, 3, 13)
    assert [reject.source for reject in sets.unused_pairs()] == ["a.jsonl:1", "a.jsonl:2", "a.jsonl:3"]
    assert (sets.accepted, sets.dropped) == (10, 3)
    assert sets.left_out.counts == {"prompt is held out too": 3}
    assert "3 prompt is held out too" in sets.notes[-1]


def test_a_missing_eval_file_names_its_own_setting(tmp_path: Path) -> None:
    config = DataConfig(path=write(tmp_path / "a.jsonl", rows(2)), eval_path=str(tmp_path / "e.jsonl"))
    with pytest.raises(DataError, match=r"data\.eval_path"):
        prepared(config, 0.5, tmp_path)


def test_eval_split_alone_belongs_to_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = []

    def load(origin: Origin) -> list[dict[str, Any]]:
        seen.append((origin.path, origin.split, origin.revision, origin.split_setting))
        return rows(4, name=origin.split)

    monkeypatch.setattr("dpo.data.read.hub.load", load)
    monkeypatch.setattr("dpo.data.read.hub.commit", lambda path, revision: "0123abc")
    sets = prepared(DataConfig(path="owner/name", eval_split="test", revision="v1"), 0.0, tmp_path)
    assert seen == [("owner/name", "train", "v1", "data.split"), ("owner/name", "test", "v1", "data.eval_split")]
    assert sets.held_out[0].source == "owner/name:test:row 1"
    assert "split test" in sets.notes[1]


def test_limit(tmp_path: Path) -> None:
    assert prepared(DataConfig(path=write(tmp_path / "a.jsonl", rows(9)), limit=4), 0.0, tmp_path).rows_read == 4


def test_demo_pairs(tmp_path: Path) -> None:
    sets = prepared(DataConfig(demo=20), 0.05, tmp_path)
    assert (len(sets.train), len(sets.held_out)) == (20, 160)
    assert "demo" in sets.notes[0]


def test_no_data_at_all_names_the_settings() -> None:
    with pytest.raises(DataError, match=r"data\.path.*data\.demo"):
        data_recipes(DataConfig(), tools())


def test_what_is_too_long_is_dropped_and_accounted_for(tmp_path: Path) -> None:
    bad = rows(1, name="bad", chosen="")
    sets = prepared(DataConfig(path=write(tmp_path / "a.jsonl", [*rows(50), *bad])), 0.2, tmp_path, max_length=60)
    assert sets.dropped and sets.left_out.counts == {"pair too long": sets.dropped}
    assert (sets.rows_read, sets.rejected) == (51, 1)
    assert all(len(pair.prompt_ids) + len(pair.chosen_ids) <= 60 for pair in sets.train)


def test_notes_count_what_is_lost_and_name_a_better_limit(tmp_path: Path) -> None:
    config = DataConfig(path=write(tmp_path / "a.jsonl", rows(50)))

    def with_limit(length: int, **limits: Any) -> DataSets:
        return prepared(config, 0.0, tmp_path, max_length=length, **limits)

    dropped = with_limit(50)
    (note,) = dropped.length_notes()
    assert f"of 50 pairs, {dropped.dropped} dropped" in note
    assert "data.max_length=50" in note
    better = int(note.rpartition("data.max_length=")[2].split()[0])
    assert len(with_limit(better).train) == 50
    assert len(with_limit(better - 1).train) == 49
    cut = with_limit(50, truncation="cut_answers")
    assert f"{sum(bool(p.cut) for p in cut.train)} cut" in cut.length_notes()[0]
    assert len(cut.train) == 50


def test_no_note_when_nothing_is_lost(tmp_path: Path) -> None:
    assert prepared(DataConfig(path=write(tmp_path / "a.jsonl", rows(5))), 0.0, tmp_path).length_notes() == []


def test_nothing_left_by_length_names_the_limit_that_keeps_99_percent(tmp_path: Path) -> None:
    config = DataConfig(path=write(tmp_path / "a.jsonl", rows(20)))
    with pytest.raises(DataError) as error:
        prepared(config, 0.2, tmp_path, max_length=10)
    message = str(error.value)
    assert "no training pair is left of 20 rows (20 pair too long)" in message
    better = int(message.rpartition("and data.max_length=")[2].split()[0])
    assert prepared(config, 0.2, tmp_path, max_length=better).dropped == 0


def test_nothing_left_by_bad_rows_lists_them(tmp_path: Path) -> None:
    bad = [*rows(2, chosen=""), *rows(1, rejected=" ")]
    with pytest.raises(
        DataError, match=r"(?s)no training pair is left.*3 empty answer.*a\.jsonl:1: empty answer"
    ) as error:
        prepared(DataConfig(path=write(tmp_path / "a.jsonl", bad)), 0.2, tmp_path)
    assert "max_length" not in str(error.value)


REJECTS = [
    Reject(source=f"a.jsonl:{n}", reason="empty answer" if n % 3 else "unknown role", detail=f"d{n}") for n in range(12)
]


def lost(rejects: list[Reject]) -> Lost:
    found = Lost()
    for reject in rejects:
        found.add(reject)
    return found


def test_bad_rows_are_an_error_with_the_first_ten_and_the_cure(tmp_path: Path) -> None:
    path = tmp_path / "rejects.jsonl"
    with pytest.raises(DataError) as error:
        check_rejects(lost(REJECTS), "error", path)
    message = str(error.value)
    assert "12 bad rows in the data (8 empty answer, 4 unknown role)" in message
    assert "a.jsonl:9: unknown role: d9" in message
    assert "a.jsonl:10" not in message
    assert "and 2 more" in message
    assert str(path) in message
    assert "data.on_bad_row=skip" in message


def test_bad_rows_pass_when_skipped_or_absent(tmp_path: Path) -> None:
    check_rejects(lost(REJECTS), "skip", tmp_path / "rejects.jsonl")
    check_rejects(Lost(), "error", tmp_path / "rejects.jsonl")


def test_what_was_lost_joins_in_order() -> None:
    first, second = lost(REJECTS[:5]), lost(REJECTS[5:])
    first.join(second)
    assert first == lost(REJECTS)


def test_write_rejects_makes_its_folder_and_writes_every_row(tmp_path: Path) -> None:
    path, kept = tmp_path / "run" / "rejects.jsonl", tmp_path / "kept.jsonl"
    odd = Reject(source="a:1", reason="invalid text", detail="\ud800 é\n")
    write_rejects(kept, [], REJECTS)
    write_rejects(path, [kept], [odd])
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(found) == 13
    assert found[0] == {"source": "a.jsonl:0", "reason": "unknown role", "detail": "d0"}
    assert found[12]["source"] == "a:1"
    assert [p.name for p in path.parent.iterdir()] == ["rejects.jsonl"]


def test_nothing_lost_leaves_no_folder(tmp_path: Path) -> None:
    empty = tmp_path / "kept.jsonl"
    empty.touch()
    write_rejects(tmp_path / "run" / "rejects.jsonl", [empty], [])
    assert not (tmp_path / "run").exists()
