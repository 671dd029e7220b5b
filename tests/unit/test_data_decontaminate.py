"""Training prompts that a benchmark holds too."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from data_prepared import prepared
from hypothesis import given
from hypothesis import strategies as st

from dpo.config.schema import DataConfig
from dpo.data.decontaminate.benchmark import Benchmark
from dpo.data.decontaminate.texts import read_benchmark
from dpo.data.decontaminate.word_runs import RUN, word_runs
from dpo.errors import DataError

QUESTION = "A train leaves the station at noon and travels north at sixty miles an hour for three hours."
OTHER = "Write a short poem about the sea in autumn, with exactly four lines and no rhyme at all."


def overlap(benchmark: Benchmark, *texts: str) -> tuple[str, float] | None:
    found = benchmark.overlap(texts)
    return found and (benchmark.places[found.item], round(found.share, 2))


@given(st.lists(st.sampled_from("abcdefgh"), max_size=20))
def test_a_text_has_a_run_for_every_eight_words(words: list[str]) -> None:
    runs = word_runs(" ".join(words))
    length = min(len(words), RUN)
    expected = [tuple(words[i : i + length]) for i in range(len(words) - length + 1)] if len(words) >= 3 else []
    assert len(runs) == len(expected)
    assert len(set(runs.tolist())) == len(set(expected))


def test_case_punctuation_and_blanks_do_not_matter_words_do() -> None:
    assert word_runs("It's the End\nof -- the WORLD!").tolist() == word_runs("it s the end of the world").tolist()
    assert word_runs("one two three").tolist() != word_runs("one two four").tolist()
    assert len(word_runs("西班牙的首都是哪一座城市")) == 5, "every one of 12 characters is a word"


def test_what_a_prompt_holds_of_a_question() -> None:
    benchmark = Benchmark([("a:1", QUESTION), ("a:2", OTHER)])
    assert len(benchmark) == 2
    assert overlap(benchmark, f"Solve this. {QUESTION.upper()} Thanks.") == ("a:1", 1.0)
    assert overlap(benchmark, "Hello.", OTHER.replace(",", " ")) == ("a:2", 1.0)
    half = " ".join(QUESTION.split()[:12])
    assert overlap(benchmark, half) == ("a:1", round(5 / 11, 2))
    assert overlap(benchmark, " ".join(QUESTION.split()[:7])) is None
    assert overlap(benchmark, " ".join(QUESTION.split()[:4]), " ".join(QUESTION.split()[4:8])) is None, "two turns"
    assert overlap(benchmark) is None
    assert overlap(Benchmark([]), QUESTION) is None


def test_a_short_question_is_found_when_a_turn_is_nothing_else() -> None:
    benchmark = Benchmark([("a:1", "Who wrote Hamlet?"), ("a:2", "math"), ("a:3", "mt-bench")])
    assert len(benchmark) == 1, "labels are no questions"
    assert overlap(benchmark, "who wrote hamlet") == ("a:1", 1.0)
    assert overlap(benchmark, "Tell me who wrote Hamlet?") is None


def test_what_all_questions_begin_with_belongs_to_the_first_alone() -> None:
    intro = "Answer the following question and give only the final letter: "
    benchmark = Benchmark([(f"a:{n}", f"{intro} {QUESTION} {n}") for n in range(3)] + [("a:9", intro + OTHER)])
    assert overlap(benchmark, intro + "what is the capital of some country far away?") == ("a:0", 0.14)
    assert overlap(benchmark, OTHER) == ("a:9", round(11 / 18, 2))


def test_it_can_be_sent_to_another_process() -> None:
    """Its hashes are those of the text alone: Python's own differ from process to process."""
    assert overlap(pickle.loads(pickle.dumps(Benchmark([("a:1", QUESTION)]))), QUESTION) == ("a:1", 1.0)
    assert word_runs("one two three").tolist() == [8708601028886170482]


def test_every_text_of_the_files_is_looked_at(tmp_path: Path) -> None:
    rows = [{"id": 1, "turns": ["Too short", QUESTION], "more": {"deep": [{"text": OTHER}]}}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "b.txt").write_text(f"\n{OTHER} Now!\n")
    benchmark = read_benchmark([str(tmp_path / "a.jsonl"), str(tmp_path / "b.txt")])
    assert overlap(benchmark, QUESTION) == ("a.jsonl:1 turns[1]", 1.0)
    assert overlap(benchmark, OTHER) == ("a.jsonl:1 more.deep[0].text", 1.0)
    assert overlap(benchmark, "with exactly four lines and no rhyme at all now") == ("b.txt:2", 1.0)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b'{"q": 1}\nbroken\n', "a.jsonl:2: invalid JSON"),
        ("a.txt", b"good\n\xff\n", "line 2, is not UTF-8"),
        ("a.jsonl", b'{"q": "one two"}\n', "no text of three words"),
        ("b.jsonl", None, "data.decontaminate"),
        ("owner/name", None, "files of this machine"),
    ],
)
def test_what_cannot_be_read_whole_is_an_error(tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    path = name
    if content is not None:
        (tmp_path / name).write_bytes(content)
    if name != "owner/name":
        path = str(tmp_path / name)
    with pytest.raises(DataError) as error:
        read_benchmark([path])
    assert said in str(error.value)


def pairs(tmp_path: Path, prompts: list[str], **settings: Any) -> DataConfig:
    (tmp_path / "q.txt").write_text(f"{QUESTION}\n{OTHER}\n")
    rows = [{"prompt": prompt, "chosen": "yes", "rejected": "no"} for prompt in prompts]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return DataConfig(path=str(tmp_path / "a.jsonl"), decontaminate=[str(tmp_path / "q.txt")], **settings)


PROMPTS = [*(f"Prompt number {n}" for n in range(7)), OTHER, " ".join(QUESTION.split()[:9]), f"{QUESTION} {QUESTION}"]


def test_the_warning_has_the_numbers_and_the_worst(tmp_path: Path) -> None:
    sets = prepared(pairs(tmp_path, PROMPTS), 0.0, tmp_path / "cache")
    assert len(sets.train) == 10
    (warning,) = sets.warnings
    first, *worst = warning.splitlines()
    assert "3 of 10 training prompts (30 %)" in first
    assert "the 2 texts of data.decontaminate; 2 hold at least half of one" in first
    assert "data.decontaminate_drop=0.5 would leave those out" in first
    assert worst[0].startswith("  a.jsonl:8 holds 100 % of q.txt:2 ('Write a short poem")
    assert worst[2].startswith("  a.jsonl:9 holds 18 % of q.txt:1 (")


def test_prompts_that_hold_enough_of_a_question_are_dropped_if_asked(tmp_path: Path) -> None:
    sets = prepared(pairs(tmp_path, PROMPTS, decontaminate_drop=0.5), 0.0, tmp_path / "cache")
    assert (len(sets.train), sets.dropped, sets.rows_read) == (8, 2, 10)
    assert {(reject.source, reject.reason) for reject in sets.unused_pairs()} == {
        ("a.jsonl:8", "prompt is in a benchmark"),
        ("a.jsonl:10", "prompt is in a benchmark"),
    }
    assert "2 are left out at data.decontaminate_drop=0.5" in sets.warnings[0]
    assert len(prepared(pairs(tmp_path, PROMPTS, decontaminate_drop=0.1), 0.0, tmp_path / "cache").train) == 7


def test_a_clean_set_is_said_to_be_one(tmp_path: Path) -> None:
    sets = prepared(pairs(tmp_path, PROMPTS[:7]), 0.0, tmp_path / "cache")
    assert sets.warnings == []
    assert "none of 7 training prompts shares 8 words" in sets.notes[-1]
