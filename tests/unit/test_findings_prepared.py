"""Findings read from prepared pairs: the same as from the texts, over all sources of a run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_tokenizers import CHATML, tiny_tokenizer

from dpo.config.schema import DataConfig
from dpo.data.findings.features import DTYPES, features
from dpo.data.findings.prepared import columns_of, measure_sets, step_for
from dpo.data.pair import Pair
from dpo.data.prepare import prepare
from dpo.data.sets import DataSets
from dpo.data.store.obtain import Place
from dpo.data.store.recipe import Tools
from dpo.data.text.template import choose_template
from dpo.data.text.tokenize import TokenLimits

pytestmark = pytest.mark.unit


def rows(count: int, name: str) -> list[dict[str, Any]]:
    return [
        {
            "prompt": f"What is the story of the {name} {n}?",
            "chosen": f"The {name} {n} is old. " * (1 + n % 3),
            "rejected": f"I'm sorry, but I can't tell the story of {n}.",
            "margin": n / 2 if n % 2 else None,
        }
        for n in range(count)
    ]


def pair_of(row: dict[str, Any]) -> Pair:
    def turns(role: str, text: str) -> list[dict[str, Any]]:
        return [{"role": role, "content": text}]

    return Pair(
        prompt=turns("user", row["prompt"]),
        chosen=turns("assistant", row["chosen"]),
        rejected=turns("assistant", row["rejected"]),
        source="",
    )


def prepared(folder: Path, train: list[dict[str, Any]], held_out: list[dict[str, Any]] | None = None) -> DataSets:
    paths = {}
    for name, values in (("a", train), ("b", held_out or [])):
        paths[name] = folder / f"{name}.jsonl"
        paths[name].write_text("".join(json.dumps(value) + "\n" for value in values))
    tokenizer = tiny_tokenizer(template=CHATML)
    tools = Tools(tokenizer=tokenizer, template=choose_template(tokenizer, "auto"), limits=TokenLimits(max_length=190))
    config = DataConfig(path=str(paths["a"]), eval_path=str(paths["b"]) if held_out else None)
    return prepare(config, 0.3, tools, Place(cache=folder / "cache"))


def test_columns_hold_the_features_of_every_pair(tmp_path: Path) -> None:
    """In the types of their columns, whatever order the sides of the split are in."""
    values = rows(40, "king")
    sets = prepared(tmp_path, values)
    columns = columns_of(sets)
    assert len(columns) == 40 and len(sets.held_out) > 0
    lines = [int(columns[number].source.rpartition(":")[2]) - 1 for number in range(40)]
    expected = [features(pair_of(values[line])) for line in lines]
    for name, dtype in DTYPES.items():
        found = columns.column(name)
        assert found.dtype == dtype
        assert found.tolist() == np.array([getattr(one, name) for one in expected], dtype).tolist(), name
    for name in ("prompt_ids", "chosen_ids", "rejected_ids"):
        assert columns.lengths(name).tolist() == [len(getattr(columns[n], name)) for n in range(40)]
    margins = columns.column("margin")
    assert [None if np.isnan(value) else value for value in margins] == [values[line]["margin"] for line in lines]


def test_two_sources_and_lost_rows_are_one_account(tmp_path: Path) -> None:
    long = {"prompt": "What is it?", "chosen": "long " * 60, "rejected": "no"}
    blank = {"prompt": "What is it?", "chosen": "", "rejected": "no"}
    leaked = rows(3, "queen")
    sets = prepared(tmp_path, [*rows(30, "king"), *leaked, long, blank], rows(12, "queen"))
    found = measure_sets(sets, lambda ids: "")
    assert (found.rows_read, found.pairs) == (47, 42)
    assert found.rejects == {"empty answer": 1}
    assert found.dropped == {"pair too long": 1, "prompt is held out too": 3}
    assert found.limits.pairs == 46 and found.limits.dropped == 1 and found.limits.beyond[256] == 1
    assert {source.name: source.pairs for source in found.sources} == {"a": 30, "b": 12}
    assert found.faults["rejected_refuses"] == 42


def test_of_very_many_pairs_some_prompts_are_looked_at_with_all_their_pairs(tmp_path: Path) -> None:
    values = [row for i in range(300) for row in rows(2, f"king {i}")]
    long = [{"prompt": f"What is {i}?", "chosen": "long " * 60, "rejected": "no"} for i in range(90)]
    sets = prepared(tmp_path, [*values, *long])
    whole, part = (measure_sets(sets, lambda ids: "", step) for step in (1, step_for(sets, 200)))
    assert step_for(sets, whole.pairs) == 1 and step_for(sets, 200) == 3
    assert part.pairs == pytest.approx(whole.pairs / 3, rel=0.25)
    columns = columns_of(sets, 3)
    prompts = columns.column("prompt")
    of_these = np.isin(columns_of(sets).column("prompt"), prompts)
    assert int(of_these.sum()) == part.pairs == len(prompts), "a prompt without one of its pairs"
    assert part.limits.dropped / part.limits.pairs == pytest.approx(whole.limits.dropped / whole.limits.pairs, rel=0.1)
    assert part.rows_read == whole.rows_read


def test_a_single_prompt_with_very_many_pairs_is_looked_at_whole(tmp_path: Path) -> None:
    sets = prepared(tmp_path, rows(9, "king"))
    only = {int(value) for value in columns_of(sets).column("prompt")}
    step = next(n for n in range(2, 99) if all(value % n for value in only))
    assert measure_sets(sets, lambda ids: "", step).pairs == 9


def test_what_a_mixture_repeats_counts_once(tmp_path: Path) -> None:
    sets = prepared(tmp_path, rows(20, "king"))
    sets.train.rows = np.repeat(sets.train.rows, 3)
    found = measure_sets(sets, lambda ids: "")
    assert (found.pairs, found.faults["duplicate"]) == (20, 0)


def test_nothing_held_out_is_no_trouble(tmp_path: Path) -> None:
    sets = prepared(tmp_path, rows(1, "king"))
    assert measure_sets(sets, lambda ids: "").pairs == 1
