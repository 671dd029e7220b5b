"""Findings on real pairs: what a person who has read them says of them."""

from pathlib import Path

import pytest

from dpo.config.schema import DataConfig
from dpo.data.findings.findings import findings, verdict
from dpo.data.findings.measure import Measured
from dpo.data.findings.prepared import measure_sets
from dpo.data.prepare import prepare
from dpo.data.store.obtain import Place
from dpo.data.store.recipe import Tools
from dpo.data.text.template import choose_template
from dpo.data.text.tokenize import TokenLimits

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not SHARED.is_dir(), reason=f"the folder {SHARED} is not there"),
]


def measured(name: str, cache: Path) -> Measured:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(SHARED / "tokenizers/qwen2.5")
    tools = Tools(
        tokenizer=tokenizer, template=choose_template(tokenizer, "auto"), limits=TokenLimits(max_length=10**6)
    )
    config = DataConfig(path=str(SHARED / "pref" / name), duplicates="keep")
    sets = prepare(config, 0.05, tools, Place(cache=cache))
    return measure_sets(sets, lambda ids: str(tokenizer.decode(ids, skip_special_tokens=True)))


def test_rejected_answers_of_one_model_have_its_opening(tmp_path: Path) -> None:
    found = measured("sharegpt_en.json", tmp_path)
    (opening,) = found.repeats.openings
    assert opening.text == "Sure, I'd be" and opening.side == "rejected" and opening.rejected > 3 * opening.chosen
    assert {finding.key for finding in findings(found)} == {"opening", "duplicate"}
    assert verdict(found).answer == "no" and found.languages["English"]["prompt"] > 0.9


def test_chinese_pairs_are_read_as_such(tmp_path: Path) -> None:
    found = measured("sharegpt_zh.json", tmp_path)
    assert found.languages["Chinese"]["chosen"] > 0.98
    assert found.faults["duplicate"] == 11
    assert found.faults["rejected_off_topic"] < 10 and found.faults["chosen_refuses"] < 5


def test_answers_that_were_reworded_for_tone_are_nearly_the_same(tmp_path: Path) -> None:
    found = measured("alpaca_ranking_short.json", tmp_path)
    assert 40 < found.faults["near_identical"] < 80 and 1 <= found.faults["formatting_only"] < 10
    assert found.bias is not None and abs(found.bias.longer - found.bias.shorter) < 0.05
    assert found.faults["conflict"] == found.faults["chosen_empty"] == 0


def test_an_orca_file_teaches_brevity_and_to_leave_out_an_opening(tmp_path: Path) -> None:
    found = measured("openai_preference.jsonl", tmp_path)
    assert verdict(found).answer == "yes" and found.bias is not None and found.bias.shorter > 0.8
    assert [finding.key for finding in findings(found)[:2]] == ["length", "opening"]


def test_dialogues_whose_answers_were_cut_off(tmp_path: Path) -> None:
    found = measured("hh_harmless_test.jsonl.gz", tmp_path)
    assert 0.04 < found.faults["chosen_unfinished"] / found.pairs < 0.08
    assert found.faults["chosen_off_topic"] > 50  # short talk is often about nothing that was named, on both sides
    assert not {finding.key for finding in findings(found)} & {"chosen_off_topic", "rejected_off_topic"}
