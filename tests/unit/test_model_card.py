"""The model card: what the hub reads in its head, what a person reads below, and no secret in either."""

from pathlib import Path

import pytest
import yaml

from dpo.config.compose import compose_run
from dpo.config.schema import RunConfig
from dpo.model_card import model_card

pytestmark = pytest.mark.unit

ROWS = [
    {"step": 0, "split": "eval", "loss": 0.6931, "rewards/accuracies": 0.5},
    {"step": 1, "split": "train", "loss": 0.6931, "rewards/accuracies": 0.5},
    {"step": 9, "split": "eval", "loss": 0.4242, "rewards/accuracies": 0.875},
]
HUB = ("model=hf", "model.path=owner/base-7b", "data.path=owner/pairs")


def composed(*overrides: str) -> RunConfig:
    return compose_run(list(overrides), 1).config


def head(card: str) -> dict[str, object]:
    return dict(yaml.safe_load(card.split("---\n")[1]))


def test_the_head_names_what_the_hub_knows() -> None:
    found = head(model_card(composed(*HUB), ROWS))
    assert found["base_model"] == "owner/base-7b" and found["datasets"] == ["owner/pairs"]
    assert found["library_name"] == "transformers" and "sigmoid" in found["tags"]  # type: ignore[operator]


def test_local_folders_are_not_taken_for_hub_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("models/mine").mkdir(parents=True)
    Path("pairs.jsonl").touch()
    found = head(model_card(composed("model=hf", "model.path=models/mine", "data.path=./pairs.jsonl"), ROWS))
    assert "base_model" not in found and "datasets" not in found


def test_figures_and_settings_are_in_it() -> None:
    card = model_card(composed(*HUB, "loss.beta=0.37", "adapter=lora"), ROWS)
    assert "0.4242" in card and "0.875" in card
    assert "beta: 0.37" in card and "lora, merged" in card and "torch " in card


def test_a_model_without_an_owner_is_on_the_hub_too() -> None:
    assert head(model_card(composed("model=hf", "model.path=gpt2", "data.path=gone.jsonl"), ROWS)) == {
        "base_model": "gpt2",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["preference-optimization", "sigmoid"],
    }


def test_it_says_how_it_was_trained_and_of_rewards_only_where_there_are_any() -> None:
    card = model_card(composed("data.demo=60"), ROWS)
    assert "the tiny model built in code" in card and "generated demo pairs" in card
    assert "arXiv:2305.18290" in card and "Rewards are" in card
    card = model_card(composed("data.demo=60", "loss=sft"), [{"step": 1, "split": "train", "loss": 3.5}])
    assert "maximum likelihood" in card and "arXiv:2305.18290" not in card and "Rewards are" not in card


def test_a_key_in_a_setting_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    config = composed("model=hf", "model.path=owner/base-7b", "data.path=correct-horse-battery.jsonl")
    monkeypatch.setenv("STORE_PASSWORD", "correct-horse-battery")  # only now: composing would refuse it
    card = model_card(config, ROWS)
    assert "correct-horse-battery" not in card and "***" in card
