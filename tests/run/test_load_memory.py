"""ZeRO-3 loads tensor by tensor: no worker ever holds the whole model, pages of mapped files included."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import LlamaConfig, LlamaForCausalLM

from launch import worker

pytestmark = [pytest.mark.run, pytest.mark.slow]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 MB of random float32 weights in several files; the largest tensor is 33 MB."""
    folder = tmp_path_factory.mktemp("model") / "llama"
    config = LlamaConfig(
        vocab_size=8192,
        hidden_size=1024,
        intermediate_size=2816,
        num_hidden_layers=11,
        num_attention_heads=16,
        num_key_value_heads=8,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=0,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder, max_shard_size="150MB")
    assert len(list(folder.glob("*.safetensors"))) >= 4
    return folder


def size(model: Path) -> int:
    return sum(file.stat().st_size for file in model.glob("*.safetensors"))


def loads(way: str, model: Path, cwd: Path) -> list[dict[str, Any]]:
    code, output = worker(2, "load.py", way, str(model), cwd=cwd)
    assert code == 0, output
    found = [json.loads(line) for line in output.splitlines() if line.startswith('{"rank"')]
    assert sorted(one["rank"] for one in found) == [0, 1], output
    return found


def true_sums(model: Path) -> dict[str, float]:
    sums = {}
    for file in model.glob("*.safetensors"):
        with safe_open(file, framework="pt") as weights:
            sums |= {name: weights.get_tensor(name).double().sum().item() for name in weights.keys()}  # noqa: SIM118
    return sums


def test_no_worker_holds_the_whole_model(model: Path, tmp_path: Path) -> None:
    """Each ends with half of it and needs little more on the way. The control loads whole and shows that the measure
    would see it."""
    whole_size = size(model)
    assert whole_size >= 500e6
    for found in loads("sharded", model, tmp_path):
        assert found["sharded"]
        assert found["peak"] < 0.8 * whole_size
        assert found["sums"] == pytest.approx(true_sums(model), rel=1e-9, abs=1e-9)
    for found in loads("whole", model, tmp_path):
        assert not found["sharded"]
        assert found["peak"] > 0.95 * whole_size
        assert found["sums"] == pytest.approx(true_sums(model), rel=1e-9, abs=1e-9)
