"""Stopped after any step and continued: the weights, moments, records and data order of an undisturbed run, bit for
bit, over every way of training."""

import json
import random
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from pairwise import Case, every_case, pairwise
from resumed import STEPS, assert_same_state, leg, numbers, run_legs, state
from transformers import GPT2Config, GPT2LMHeadModel

from dpo.config.compose import choices
from dpo.demo.pairs import demo_texts
from dpo.model.tiny import build_tiny_tokenizer
from launch import read_rows

pytestmark = [pytest.mark.run, pytest.mark.timeout(1600)]  # one launch trains dozens of runs

# The first, within an epoch, at its end, in the second, the last but one: each in between two records and two
# evaluations, or just where one falls.
STOPS = (1, 3, 5, 7, 9)
# With nothing to remember; with a second pass per step; with a running mean; with a setting that follows the step.
LOSSES = {
    "sigmoid": [],
    "kto": ["loss=kto"],
    "bco": ["loss=bco"],
    "beta_final": ["loss.beta_final=0.1"],
}
FACTORS: dict[str, list[Any]] = {
    "zero": ["off", "zero2", "zero3"],
    "reference": [kind for kind in ("cached", "sharded", "adapter_off", "moving") if kind in choices()["reference"]],
    "adapter": ["none", "lora"],
    "workers": [1, 2],
    "dropout": [False, True],
    "loss": [*LOSSES],
}


def possible(case: Case) -> bool:
    return case["adapter"] == "lora" or case["reference"] != "adapter_off"


CASES = every_case(FACTORS, possible)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GPT-2 in miniature: it has dropout after embeddings, attention and layers."""
    folder = tmp_path_factory.mktemp("gpt2")
    tokenizer = build_tiny_tokenizer(demo_texts())
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=2, n_positions=256, eos_token_id=4)
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@dataclass(kw_only=True, slots=True)
class Disturbed:
    """One case: a run that nothing disturbs, and one that stops after the steps `stops`."""

    case: Case
    stops: list[int]

    @property
    def name(self) -> str:
        return "-".join(str(value) for value in self.case.values())

    def legs(self, model: Path) -> list[dict[str, Any]]:
        return [
            leg(name, *self.settings(model), stop_after=stop)
            for name, stops in ((self.name, [None]), (f"{self.name}-stopped", [*self.stops, None]))
            for stop in stops
        ]

    def settings(self, model: Path) -> list[str]:
        case = self.case
        return [
            f"model.path={model}",
            f"model.dropout={str(case['dropout']).lower()}",
            f"adapter={case['adapter']}",
            *(["adapter.dropout=0.1"] if case["adapter"] == "lora" and case["dropout"] else []),
            f"zero={case['zero']}",
            f"reference={case['reference']}",
            *(["reference.sync_every=3"] if case["reference"] == "moving" else []),
            *LOSSES[case["loss"]],
        ]

    def check(self, cwd: Path) -> None:
        undisturbed, stopped = cwd / self.name, cwd / f"{self.name}-stopped"
        rows = numbers(undisturbed / "metrics.jsonl")
        assert [row["step"] for row in rows if row["split"] == "train"] == [4, 8, 10]
        assert numbers(stopped / "metrics.jsonl") == rows, (self.case, self.stops)
        assert read_rows(stopped / "samples.jsonl") == read_rows(undisturbed / "samples.jsonl"), self.case
        assert [json.loads((folder / "status.json").read_text())["state"] for folder in (undisturbed, stopped)] == [
            "done",
            "done",
        ]
        assert_same_state(state(undisturbed), state(stopped), f"{self.case}, stopped after {self.stops}")


def run_and_check(disturbed: list[Disturbed], model: Path, cwd: Path) -> None:
    run_legs(disturbed[0].case["workers"], [one for each in disturbed for one in each.legs(model)], cwd)
    for each in disturbed:
        each.check(cwd)


def test_the_cases_meet_every_two_values() -> None:
    chosen = pairwise(CASES)
    assert len(chosen) <= 1.2 * len(FACTORS["loss"]) * len(FACTORS["reference"]), "these pairs alone are so many"
    for case in CASES:
        for (one, a), (two, b) in combinations(case.items(), 2):
            assert any(found[one] == a and found[two] == b for found in chosen)


@pytest.mark.parametrize("workers", FACTORS["workers"])
def test_every_two_ways_together(workers: int, model: Path, tmp_path: Path) -> None:
    """Pairwise: every two values of every two factors meet in one of the cases, each stopped at one of STOPS."""
    chosen = [
        Disturbed(case=case, stops=[STOPS[i % len(STOPS)]])
        for i, case in enumerate(pairwise(CASES))
        if case["workers"] == workers
    ]
    run_and_check(chosen, model, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("adapter", FACTORS["adapter"])
@pytest.mark.parametrize("zero", FACTORS["zero"])
@pytest.mark.parametrize("workers", FACTORS["workers"])
def test_every_way_at_random_steps(
    workers: int, zero: str, adapter: str, loss: str, model: Path, tmp_path: Path
) -> None:
    chosen = [
        Disturbed(case=case, stops=sorted(random.Random(i).sample(range(1, STEPS), 3)))
        for i, case in enumerate(CASES)
        if (case["workers"], case["zero"], case["adapter"], case["loss"]) == (workers, zero, adapter, loss)
    ]
    run_and_check(chosen, model, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("workers", [1, 2])
def test_after_every_single_step(workers: int, loss: str, model: Path, tmp_path: Path) -> None:
    case = {"adapter": "none", "zero": "off", "reference": "cached", "dropout": True, "workers": workers, "loss": loss}
    run_and_check([Disturbed(case=case, stops=list(range(1, STEPS)))], model, tmp_path)
