"""A revision that is given reaches every request for a model, its tokenizer, its weights and a data set; one that would
reach none is refused."""

from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pytest
import torch
from data_tokenizers import tiny_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from dpo.config.checks import check
from dpo.config.compose import compose_run
from dpo.config.schema import DataConfig, ModelConfig, ReferenceConfig
from dpo.data.prepare import data_recipes, obtain_all
from dpo.data.store.obtain import Place
from dpo.data.store.recipe import Tools
from dpo.data.text.limits import TokenLimits
from dpo.data.text.template import choose_template
from dpo.errors import ConfigError
from dpo.model.load import load_causal_lm
from dpo.model.source import ModelSource, policy_source, reference_source
from dpo.model.tiny import build_tiny_model

pytestmark = pytest.mark.unit

COMMIT = "0123abc"
Calls = list[tuple[str, Any]]


class Whole:
    """Placement of one worker."""

    dtype, sharded = torch.float32, False

    def adopt(self, model: torch.nn.Module) -> None: ...


class Sharded(Whole):
    sharded = True


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """(what was asked for, at which revision), with a hub that has everything."""
    found: Calls = []

    def record(what: str, answer: Any) -> Any:
        def call(*args: Any, revision: str | None = None, **kwargs: Any) -> Any:
            found.append((what, revision))
            return answer

        return call

    model = build_tiny_model(seed=0)
    row = {"prompt": "a", "chosen": "b", "rejected": "c"}
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", record("model info", None))
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", record("data info", None))
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", record("cache", None))
    monkeypatch.setattr(AutoConfig, "from_pretrained", record("config", model.config))
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", record("tokenizer", None))
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", record("weights", model))
    monkeypatch.setattr(datasets, "load_dataset", record("data", [row]))

    def download(path: str, name: str, *, revision: str | None = None) -> str:
        found.append((name, revision))
        raise huggingface_hub.errors.EntryNotFoundError(name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return found


def sources(revision: str | None) -> list[ModelSource]:
    policy = policy_source(ModelConfig(path="owner/model", revision=revision), seed=0)
    own = ReferenceConfig(path="owner/reference", revision=revision)
    return [policy, reference_source(ReferenceConfig(), policy), reference_source(own, policy)]


@pytest.mark.parametrize("revision", [None, COMMIT])
@pytest.mark.parametrize("which", [0, 1, 2], ids=["policy", "its own reference", "another reference"])
@pytest.mark.parametrize("placement", [Whole(), Sharded()])
def test_every_request_for_a_model(which: int, revision: str | None, placement: Any, calls: Calls) -> None:
    source = sources(revision)[which]
    source.tokenizer()
    load_causal_lm(source, placement)
    assert {"config", "tokenizer", "weights", "model info", "cache"} <= {what for what, _ in calls}
    assert ("model.safetensors" in dict(calls)) == placement.sharded
    assert {asked for _, asked in calls} == {revision}


def test_every_request_for_a_data_set(calls: Calls, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tools = Tools(tokenizer=tokenizer, template=choose_template(tokenizer, "auto"), limits=TokenLimits(max_length=99))
    recipes = data_recipes(DataConfig(path="owner/pairs", revision=COMMIT, eval_split="test"), tools)
    obtain_all(recipes, [recipe.digest(tmp_path) for recipe in recipes], Place(cache=tmp_path))
    assert set(calls) == {("data info", COMMIT), ("data", COMMIT)}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["reference.revision=main"], "reference.path"),
        (["data.revision=main"], "data.path"),
        (["model.path={here}", "model.revision=main"], "on this machine"),
        (["reference.path={here}", "reference.revision=main"], "on this machine"),
        (["data.path={here}", "data.revision=main"], "on this machine"),
    ],
)
def test_a_revision_that_pins_nothing_is_refused(settings: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        check(compose_run([text.format(here=tmp_path) for text in settings], 1).config)
    (problem,) = caught.value.problems
    assert ".revision" in problem and said in problem
