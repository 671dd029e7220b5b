"""A run looks at its machine before it loads anything."""

from pathlib import Path

import pytest
from transformers import Qwen2Config

from dpo.model.tiny import END_ID, build_tiny_tokenizer
from launch import SMALL, Ended, launch

pytestmark = pytest.mark.run


@pytest.fixture
def giant(tmp_path: Path) -> Path:
    """72B weights by its config.json; no file holds them."""
    folder = tmp_path / "giant"
    build_tiny_tokenizer().save_pretrained(folder)
    Qwen2Config(
        vocab_size=152064,
        hidden_size=8192,
        intermediate_size=29568,
        num_hidden_layers=80,
        num_attention_heads=64,
        num_key_value_heads=8,
        eos_token_id=END_ID,
        bos_token_id=None,
    ).save_pretrained(folder)
    return folder


def test_what_cannot_fit_is_refused_at_once_and_can_be_forced(giant: Path, tmp_path: Path) -> None:
    settings = (*SMALL, "data=demo", f"model.path={giant}", "guard.self_check=false", "name=giant")
    refused = launch(1, *settings, cwd=tmp_path)
    assert refused.code == 1
    assert "weights, gradients and optimizer alone need" in refused.output and "plan.force=true" in refused.output
    assert not (refused.folder / "metrics.jsonl").exists()
    forced = launch(1, *settings, "plan.force=true", cwd=tmp_path)
    assert forced.code == 1 and "alone need" not in forced.output
    assert "plan: does not fit" in forced.output  # said, and on it goes to the weights that are not there
    assert "there are no weight files" in forced.output.splitlines()[-1]


def test_a_run_tells_its_plan(one: Ended) -> None:
    assert "plan: fits with " in one.output
