"""Every real file that lies beside the project: its format, and what became of each of its rows."""

from collections import Counter
from pathlib import Path

import pytest

from dpo.data.formats.convert import Converted, convert_rows
from dpo.data.formats.settings import FormatSettings
from dpo.data.read.files import Origin
from dpo.errors import DataError

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "pref"
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not SHARED.is_dir(), reason=f"the folder {SHARED} is not there"),
]
FILES = {  # name -> (format, rows, reason of the rejects, rejects)
    "alpaca_ranking_short.json": ("alpaca_ranking", 1100, "chosen equals rejected", 6),
    "email_agent.jsonl": ("strings", 270, "", 0),
    "hh_harmless_test.jsonl.gz": ("hh", 2312, "empty answer", 4),
    "hh_helpful_messages.jsonl": ("rm_gallery", 1136, "chosen equals rejected", 13),
    "kto_en.json": ("unpaired_messages", 300, "", 0),
    "messages_weighted.jsonl": ("messages", 100, "", 0),
    "openai_preference.jsonl": ("openai", 284, "", 0),
    "sharegpt_en.json": ("sharegpt", 300, "", 0),
    "sharegpt_zh.json": ("sharegpt", 300, "", 0),
    "tool_use.jsonl": ("strings", 20, "", 0),
    "tulu_messages.jsonl": ("messages", 100, "", 0),
}


def read(name: str, **settings: str) -> Converted:
    return convert_rows(Origin(path=str(SHARED / name)), FormatSettings(**settings))


@pytest.mark.parametrize("name", FILES)
def test_every_row_is_a_pair_or_is_rejected_for_a_known_reason(name: str) -> None:
    form, rows, reason, count = FILES[name]
    found = read(name)
    assert found.converter.format.name == form
    assert found.rows_read == rows
    assert Counter(reject.reason for reject in found.rejects) == Counter({reason: count} if count else {})
    assert (len(found.pairs), found.dropped) == (rows - count, [])
    assert all(len(turns) <= 1 for pair in found.pairs for turns in (pair.chosen, pair.rejected))


def test_every_file_of_pairs_is_tested() -> None:
    others = {"toolcall_dialogues.json", "tool_use.tools.json"}  # dialogues and schemas: no pairs
    assert {path.name for path in SHARED.iterdir()} == set(FILES) | others
    with pytest.raises(DataError, match=r"unpaired_messages .*lacks label \(or kto_tag\)\n.*sharegpt .*lacks chosen"):
        read("toolcall_dialogues.json")


def test_the_scored_text_of_a_dialogue_is_what_follows_its_last_speaker() -> None:
    import gzip
    import json

    with gzip.open(SHARED / "hh_harmless_test.jsonl.gz") as lines:
        texts = [json.loads(line) for line in lines]
    found = read("hh_harmless_test.jsonl.gz")
    parting = 0
    for pair in found.pairs:
        row = texts[int(pair.source.rpartition(":")[2]) - 1]
        before = row["chosen"].rpartition("\n\nAssistant:")[0]
        if before != row["rejected"].rpartition("\n\nAssistant:")[0]:
            parting += 1  # a turn of the model's own earlier on
            continue
        for side in ("chosen", "rejected"):
            last = row[side].rpartition("\n\nAssistant:")[2].strip()
            assert getattr(pair, side)[-1]["content"].endswith(last)
            assert "\n\nHuman:" not in getattr(pair, side)[-1]["content"]
        assert [turn["role"] for turn in pair.prompt] == ["user", "assistant"] * (len(pair.prompt) // 2) + ["user"]
    assert parting == 5


def test_prompts_with_chat_markers_stay_as_they_are() -> None:
    found = read("email_agent.jsonl")
    assert "chat markers already" in found.converter.describe()
    assert len({pair.prompt_hash for pair in found.pairs}) == 27
    assert all(pair.prompt[0]["role"] == "raw" for pair in found.pairs)
    assert all(pair.prompt[0]["content"].endswith("<|im_start|>assistant\n") for pair in found.pairs)


def test_unpaired_rows_stand_on_the_side_of_their_label() -> None:
    pairs = read("kto_en.json").pairs
    assert all(bool(pair.chosen) != bool(pair.rejected) for pair in pairs)
    assert sum(bool(pair.chosen) for pair in pairs) == 150


def test_rewards_are_the_margin() -> None:
    assert {pair.margin for pair in read("hh_helpful_messages.jsonl").pairs} == {1.0}
