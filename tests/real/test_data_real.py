"""The data folder on real files and tokenizers, which lie beside the project."""

from pathlib import Path
from typing import Any

import pytest

from dpo.config.schema import DataConfig
from dpo.data.formats.convert import Converted, convert_rows
from dpo.data.formats.settings import FormatSettings
from dpo.data.groups import group_pairs
from dpo.data.prepare import prepare
from dpo.data.read.files import Origin
from dpo.data.rows import MicroBatches, spread_groups
from dpo.data.sets import DataSets
from dpo.data.store.obtain import Place
from dpo.data.store.recipe import Tools
from dpo.data.text.limits import TokenLimits
from dpo.data.text.show import render_marked
from dpo.data.text.template import choose_template

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not SHARED.is_dir(), reason=f"the folder {SHARED} is not there"),
]
FILES = {  # name -> (format, rows, bad rows)
    "sharegpt_en.json": ("sharegpt", 300, 0),
    "sharegpt_zh.json": ("sharegpt", 300, 0),
    "tulu_messages.jsonl": ("messages", 100, 0),
    "alpaca_ranking_short.json": ("alpaca_ranking", 1100, 6),
}
TOKENIZERS = {  # folder -> end-of-turn token
    "tokenizers/gpt2": "<|endoftext|>",
    "tokenizers/qwen2.5": "<|im_end|>",
    "tokenizers/qwen3": "<|im_end|>",
    "tokenizers/tinyllama-chat": "</s>",
    "tokenizers/pythia-neox": "<|endoftext|>",
    "models/stories260K": "</s>",
}


def rows_of(name: str, limit: int | None = None) -> Converted:
    return convert_rows(Origin(path=str(SHARED / "pref" / name), limit=limit), FormatSettings())


def prepared(name: str, folder: str, cache: Path, fraction: float = 0.0, **limits: Any) -> DataSets:
    """All rows with the tokenizer of `folder`; `limits`: data.limit and those of tokens."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(SHARED / folder)
    config = DataConfig(path=str(SHARED / "pref" / name), limit=limits.pop("limit", None))
    tools = Tools(tokenizer=tokenizer, template=choose_template(tokenizer, "auto"), limits=TokenLimits(**limits))
    return prepare(config, fraction, tools, Place(cache=cache))


@pytest.mark.parametrize("name", FILES)
def test_real_files_are_read_whole(name: str, tmp_path: Path) -> None:
    form, count, bad = FILES[name]
    sets = prepared(name, "tokenizers/qwen2.5", tmp_path, 0.05, max_length=10**6)
    assert f"format {form} (" in sets.notes[0]
    assert (sets.rows_read, sets.rejected) == (count, bad)
    assert len(sets.train) + len(sets.held_out) == count - bad - sets.dropped
    assert set(sets.left_out.counts) <= {"duplicate"}
    assert len(sets.held_out)
    assert not {*sets.train.column("prompt").tolist()} & {*sets.held_out.column("prompt").tolist()}
    assert [pair.id for pair in rows_of(name).pairs] == [pair.id for pair in sets.train.store]


@pytest.mark.parametrize("folder", TOKENIZERS)
@pytest.mark.parametrize("name", FILES)
def test_ids_are_those_of_the_whole_text(folder: str, name: str, tmp_path: Path) -> None:
    """Prompt and answers are tokenized apart; on real text, joined, they are what the whole text gives."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(SHARED / folder)
    template = choose_template(tokenizer, "auto")
    assert template.end_of_turn == TOKENIZERS[folder]
    pairs = rows_of(name, limit=60).pairs
    found = prepared(name, folder, tmp_path, limit=60, max_length=10**6).train
    assert len(found) == len(pairs)
    end = tokenizer.convert_tokens_to_ids(template.end_of_turn)
    other = 0
    for pair, ids in zip(pairs, found, strict=True):
        text = template.render(tokenizer, pair.prompt + pair.chosen, header=False)
        whole = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        mine = ids.prompt_ids + ids.chosen_ids
        mine = mine[1:] if mine[0] == tokenizer.bos_token_id else mine
        other += whole[: len(mine)] != mine
        assert ids.chosen_ids[-1] == ids.rejected_ids[-1] == end
    assert other <= 1  # an answer that begins with a line break, merged with the one before it


def test_qwen3_keeps_its_empty_thought_in_the_answer(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(SHARED / "tokenizers/qwen3")
    found = prepared("alpaca_ranking_short.json", "tokenizers/qwen3", tmp_path, limit=20, max_length=512)
    shown = render_marked(found.train[0], tokenizer)
    assert shown.count("\n⟦<think>\n\n</think>\n\n") == 2
    assert shown.endswith("<|im_end|>⟧")


def test_rows_are_full_on_real_lengths(tmp_path: Path) -> None:
    """All pairs of the files in rows of 4096 tokens: at least 95 % of what the rows could hold is computed."""
    clean = [name for name, (_, _, bad) in FILES.items() if not bad]
    sets = [prepared(name, "tokenizers/qwen2.5", tmp_path, max_length=2048) for name in clean]
    groups = list(group_pairs([pair for one in sets for pair in one.train], most=32))
    for workers in (1, 2):
        micro = MicroBatches(layout="packed", max_tokens=4096, max_pairs=None, world_size=workers)
        rows = [row for rows in spread_groups(groups, micro) for row in rows]
        assert sum(group.row_tokens for group in groups) / (4096 * len(rows)) >= 0.95
