"""The experiments are the papers': each value, what each file says of itself, and that its numbers are its own."""

import re
import shlex
from typing import Any

import pytest
from composing import composed, problems

from dpo.config.checks_expect import expect_problems
from dpo.config.compose import CONF, choices
from dpo.config.derive import derive
from dpo.config.expect import Band, ExpectConfig

pytestmark = pytest.mark.unit

NAMES = [name for name in choices()["experiment"] if name != "none"]
FILES = {name: (CONF / "experiment" / f"{name}.yaml").read_text() for name in NAMES}
ZEPHYR, ULTRAFEEDBACK = "alignment-handbook/zephyr-7b-sft-full", "HuggingFaceH4/ultrafeedback_binarized"

# By the papers, their authors' repositories and model cards.
VALUES: dict[str, dict[str, Any]] = {
    "zephyr-7b": {
        "model.path": ZEPHYR,
        "data.path": ULTRAFEEDBACK,
        "data.split": "train_prefs",
        "data.eval_split": "test_prefs",
        "data.max_length": 1024,
        "loss.name": "sigmoid",
        "loss.beta": 0.01,
        "optim.lr": 5e-7,
        "optim.scheduler": "cosine",
        "optim.warmup_ratio": 0.1,
        "optim.global_batch_size": 128,
        "optim.epochs": 1,
        "adapter.kind": "none",
    },
    "tulu3-8b": {
        "model.path": "allenai/Llama-3.1-Tulu-3-8B-SFT",
        "data.path": "allenai/llama-3.1-tulu-3-8b-preference-mixture",
        "data.max_length": 2048,
        "loss.name": "sigmoid_norm",
        "loss.beta": 5.0,
        "optim.lr": 5e-7,
        "optim.scheduler": "linear",
        "optim.warmup_ratio": 0.1,
        "optim.weight_decay": 0.0,
        "optim.global_batch_size": 128,
        "optim.epochs": 1,
    },
    "simpo-llama3-8b": {
        "model.path": "princeton-nlp/Llama-3-Base-8B-SFT",
        "data.path": ULTRAFEEDBACK,
        "data.max_length": 2048,
        "reference.kind": "none",
        "loss.name": "simpo",
        "loss.beta": 2.0,
        "loss.gamma": 1.0,
        "optim.lr": 6e-7,
        "optim.scheduler": "cosine",
        "optim.warmup_ratio": 0.1,
        "optim.global_batch_size": 128,
        "optim.epochs": 1,
    },
    "dpo-hh-sft": {
        "name": "dpo-hh-sft",
        "model.path": "EleutherAI/pythia-2.8b",
        "data.path": "Anthropic/hh-rlhf",
        "loss.name": "sft",
        "loss.answers": "chosen",
    },
    "dpo-hh": {
        "model.path": "outputs/dpo-hh-sft/final",
        "data.path": "Anthropic/hh-rlhf",
        "data.max_length": 512,
        "loss.name": "sigmoid",
        "loss.beta": 0.1,
        "optim.lr": 5e-7,
        "optim.beta1": 0.0,
        "optim.beta2": 0.99,
        "optim.scheduler": "constant",
        "optim.max_grad_norm": 10.0,
        "optim.global_batch_size": 64,
        "optim.epochs": 1,
    },
    "gpt2-lora": {
        "model.path": "openai-community/gpt2",
        "data.path": "argilla/ultrafeedback-binarized-preferences-cleaned",
        "data.max_length": 1024,
        "adapter.kind": "lora",
        "adapter.rank": 4,
        "adapter.alpha": 8.0,
        "adapter.dropout": 0.1,
        "adapter.target_modules": ["c_attn", "c_proj"],
        "optim.lr": 1e-4,
    },
    "llamafactory-lora": {
        "adapter.kind": "lora",
        "adapter.rank": 16,
        "adapter.alpha": 32.0,
        "adapter.target_modules": ["all-linear"],
        "data.max_length": 2048,
        "data.eval_split": None,
        "loss.name": "sigmoid",
        "loss.beta": 0.1,
        "optim.lr": 5e-7,
        "optim.scheduler": "cosine",
        "optim.warmup_ratio": 0.1,
        "optim.global_batch_size": 32,
        "eval.every": 100,
        "eval.fraction": 0.1,
    },
}
BANDS = {"zephyr-7b": {"loss": (0.502, 0.505), "rewards/accuracies": (0.75, 0.79), "rewards/margins": (0.94, 1.0)}}


@pytest.mark.parametrize("name", VALUES)
def test_values_are_the_papers(name: str) -> None:
    config = composed(f"experiment={name}", world_size=8)
    derive(config)
    found = {}
    for key in VALUES[name]:
        node: Any = config
        for part in key.split("."):
            node = getattr(node, part)
        found[key] = node
    assert found == VALUES[name]


def test_the_warm_up_of_the_authors_run_is_150_steps() -> None:
    """160,800 pairs in steps of 64."""
    assert round(composed("experiment=dpo-hh").optim.warmup_ratio * 160_800 / 64) == pytest.approx(150, abs=1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("world_size", [1, 8])
def test_every_experiment_composes_and_is_its_own(name: str, world_size: int) -> None:
    config = composed(f"experiment={name}", world_size=world_size)
    assert config.expect.experiment == (name if config.expect.held_out else None)


@pytest.mark.parametrize("name", NAMES)
def test_the_header_has_a_launch_line_that_works(name: str) -> None:
    (line,) = [line for line in FILES[name].splitlines() if re.match(r"# (torchrun|accelerate) ", line)]
    words = shlex.split(re.sub(r" {2,}\(.*", "", line))
    overrides = words[words.index("train.py") + 1 :]
    assert f"experiment={name}" in overrides
    composed(*overrides)


@pytest.mark.parametrize("name", VALUES)
def test_the_header_says_hardware_and_what_to_expect(name: str) -> None:
    head = "".join(line for line in FILES[name].splitlines(keepends=True) if line.startswith("#"))
    assert "# Hardware: " in head and "# Expected" in head


@pytest.mark.parametrize("name", BANDS)
def test_bands(name: str) -> None:
    bands = composed(f"experiment={name}").expect.held_out
    assert {key: (band.low, band.high) for key, band in bands.items()} == BANDS[name]


def test_own_data_take_the_place_of_an_experiments() -> None:
    config = composed("experiment=llamafactory-lora", "data.path=pairs.json")
    assert (config.data.path, config.data.eval_split, config.data.max_length) == ("pairs.json", None, 2048)


def test_bands_that_nothing_can_lie_in_or_of_no_metric() -> None:
    (found,) = problems("experiment=zephyr-7b", "expect.held_out.loss.low=0.6")
    assert "expect.held_out.loss: low=0.6 is above high=0.505" in found
    (found,) = problems("experiment=zephyr-7b", "expect.experiment=null")
    assert "expect.experiment" in found
    band = Band(low=0, high=1)
    slip, training = expect_problems(ExpectConfig(experiment="demo", held_out={"los": band, "grad_norm": band}))
    assert "expect.held_out.los: no number of held-out records. Did you mean loss?" in slip
    assert "expect.held_out.grad_norm: no number of held-out records" in training
    assert list(expect_problems(ExpectConfig(experiment="demo", held_out={"samples/good": band}))) == []
