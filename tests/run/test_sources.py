"""Several sources in other formats, one seen more often: mixed the same way by any number of workers."""

import json
from pathlib import Path
from typing import Any

import pytest
from test_numbers import assert_same_numbers

from launch import SMALL, Ended, train

pytestmark = pytest.mark.run

SOURCES = "data.sources=[{path: pairs.jsonl, weight: 2.5}, {path: ranked.jsonl, name: four, count: 12}]"
SETTINGS = (SOURCES, *(s for s in SMALL if not s.startswith("data.demo")), "optim.lr=1e-3", "checkpoint.every=0")


def pair(i: int) -> dict[str, Any]:
    return {"prompt": f"What is {i}?", "chosen": f"It is {i}.", "rejected": "Who knows? " * (1 + i % 4)}


def ranked(i: int) -> dict[str, Any]:
    answers = [f"{word} {i}" for word in ("one", "two", "three", "four")]
    return {"prompt": f"Count to {i}.", "responses": answers, "scores": [i % 3 + 0.5, 3, 9 - i, 0]}


def write(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def run(n: int, cwd: Path) -> Ended:
    write(cwd / "pairs.jsonl", [*map(pair, range(30)), {"prompt": "What is 3?", "chosen": "", "rejected": "No."}])
    write(cwd / "ranked.jsonl", [ranked(i) for i in range(8)])
    zero = "zero=off" if n == 1 else "zero=zero3"
    return train(n, *SETTINGS, "data.on_bad_row=skip", "eval.fraction=0.2", zero, f"name=on{n}", cwd=cwd)


def test_one_and_two_workers_train_on_the_same_mixture(tmp_path: Path) -> None:
    one, two = run(1, tmp_path), run(2, tmp_path)
    assert_same_numbers(two, one)
    assert len({row["batch"] for row in one.train}) == len(one.train)
    rejects = [json.loads(line) for line in (one.folder / "rejects.jsonl").read_text().splitlines()]
    assert [row["source"] for row in rejects if row["reason"] == "empty answer"] == ["pairs.jsonl:31"]
