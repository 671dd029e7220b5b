"""Reading real files, and holding prompts against a real benchmark."""

import json
from pathlib import Path

import pytest

from dpo.config.schema import DataConfig, SourceConfig
from dpo.data.decontaminate.texts import read_benchmark
from dpo.data.prepare import prepare
from dpo.data.read.files import read_rows
from dpo.data.read.origin import Origin, Row
from dpo.data.sets import DataSets
from dpo.data.store.obtain import Place
from dpo.data.store.recipe import Tools
from dpo.data.text.limits import TokenLimits
from dpo.data.text.template import choose_template

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not SHARED.is_dir(), reason=f"the folder {SHARED} is not there"),
]
QUESTIONS = SHARED / "prompts" / "mt_bench_question.jsonl"
ROWS = {
    "sharegpt_en.json": 300,
    "sharegpt_zh.json": 300,
    "messages_weighted.jsonl": 100,
    "kto_en.json": 300,
    "toolcall_dialogues.json": 300,
    "hh_harmless_test.jsonl.gz": 2312,
    "hh_helpful_messages.jsonl": 1136,
    "tulu_messages.jsonl": 100,
    "openai_preference.jsonl": 284,
    "alpaca_ranking_short.json": 1100,
    "email_agent.jsonl": 270,
    "tool_use.jsonl": 20,
}


def prepared(config: DataConfig, cache: Path) -> DataSets:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(SHARED / "tokenizers" / "gpt2")
    limits = TokenLimits(max_length=10**6)
    tools = Tools(tokenizer=tokenizer, template=choose_template(tokenizer, "auto"), limits=limits)
    return prepare(config, 0.05, tools, Place(cache=cache, shown=False))


@pytest.mark.parametrize("name", ROWS)
def test_every_row_of_a_real_file_is_read(name: str) -> None:
    rows = list(read_rows(Origin(path=str(SHARED / "pref" / name))))
    assert len(rows) == ROWS[name]
    assert all(isinstance(row, Row) for row in rows)
    assert [row.source for row in rows][-1] in (f"{name}:{len(rows)}", f"{name}:row {len(rows)}")


@pytest.mark.parametrize("name", ["sharegpt_zh.json", "alpaca_ranking_short.json"])
def test_an_array_read_in_pieces_is_the_whole_array(name: str) -> None:
    path = SHARED / "pref" / name
    rows = [row.values for row in read_rows(Origin(path=str(path))) if isinstance(row, Row)]
    assert rows == json.loads(path.read_text(encoding="utf-8"))


def test_sources_of_different_formats_become_one_set(tmp_path: Path) -> None:
    sources = [
        SourceConfig(path=str(SHARED / "pref" / "sharegpt_en.json")),
        SourceConfig(path=str(SHARED / "pref" / "tulu_messages.jsonl"), count=50),
    ]
    sets = prepared(DataConfig(sources=sources, limit=80), tmp_path)
    assert {pair.dataset for pair in sets.train} == {"sharegpt_en", "tulu_messages"}
    assert sets.accepted + sets.rejected + sets.dropped == sets.rows_read == 160


def test_a_real_benchmark_is_found_in_prompts_and_not_in_others(tmp_path: Path) -> None:
    questions = [json.loads(line)["turns"] for line in QUESTIONS.read_text(encoding="utf-8").splitlines()]
    benchmark = read_benchmark([str(QUESTIONS)])
    long = [turn for turns in questions for turn in turns if len(turn.split()) >= 8]
    shares = [found.share for turn in long if (found := benchmark.overlap([f"Please: {turn.upper()} Thank you!"]))]
    assert len(shares) == len(long) > 120
    assert sum(share == 1 for share in shares) >= len(long) - 5  # some share a run with an earlier question

    alpaca = SHARED / "pref" / "alpaca_ranking_short.json"
    settings = DataConfig(path=str(alpaca), on_bad_row="skip", decontaminate=[str(QUESTIONS)])
    sets = prepared(settings, tmp_path)
    assert (sets.warnings, sum("none of" in note for note in sets.notes)) == ([], 1)
