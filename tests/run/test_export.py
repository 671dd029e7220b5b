"""What a run leaves in final/: a Hugging Face folder that computes what the trained policy computed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedModel

from dpo.demo.pairs import demo_pairs
from launch import SMALL, Ended, train

pytestmark = pytest.mark.run

DEMO = 300
STEPS = (*SMALL, "optim.max_steps=6", "optim.lr=1e-3", "checkpoint.every=0")


def mean_logps(model: PreTrainedModel, tokenizer: Any) -> dict[str, float]:
    """Mean log-probability of the held-out answers, written anew: the chat template of the whole dialogue, padded rows,
    the model's own logits."""
    _, held_out = demo_pairs(DEMO)
    means = {}
    for side in ("chosen", "rejected"):
        prompts = [_ids(tokenizer, pair.prompt, True) for pair in held_out]
        whole = [_ids(tokenizer, pair.prompt + getattr(pair, side), False) for pair in held_out]
        assert all(row[: len(prompt)] == prompt for row, prompt in zip(whole, prompts, strict=True))
        ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in whole], batch_first=True)
        lengths = torch.tensor([len(row) for row in whole])[:, None]
        mask = torch.arange(ids.shape[1]) < lengths
        with torch.no_grad():
            logps = model(input_ids=ids, attention_mask=mask.long()).logits[:, :-1].double().log_softmax(-1)
        of_targets = logps.gather(2, ids[:, 1:, None])[..., 0]
        answers = mask[:, 1:] & (torch.arange(1, ids.shape[1]) >= torch.tensor([len(p) for p in prompts])[:, None])
        means[f"logps/{side}"] = float((of_targets * answers).sum() / len(held_out))
    return means


def _ids(tokenizer: Any, messages: list[dict[str, str]], open_end: bool) -> list[int]:
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=open_end, tokenize=False)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def loaded(folder: Path) -> tuple[PreTrainedModel, Any]:
    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def assert_is_the_trained_policy(ended: Ended) -> None:
    first, last = ended.held_out[0], ended.held_out[-1]
    found = mean_logps(*loaded(ended.folder / "final"))
    for name, value in found.items():
        assert value == pytest.approx(last[name], rel=1e-5)
        assert value != pytest.approx(first[name], rel=1e-4)  # it was trained, and the measure would see it


@pytest.mark.parametrize("run", ["one", "two"])
def test_final_gives_the_log_probs_of_the_last_evaluation(run: str, request: pytest.FixtureRequest) -> None:
    assert_is_the_trained_policy(request.getfixturevalue(run))


@pytest.mark.parametrize("run", ["one", "two"])
def test_final_is_whole_and_only_safetensors(run: str, request: pytest.FixtureRequest) -> None:
    """Weights, tokenizer with its chat template, and a generation config that knows where an answer ends."""
    final = request.getfixturevalue(run).folder / "final"
    names = {path.name for path in final.iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= names
    assert not {name for name in names if name.endswith((".bin", ".pt", ".pkl"))}
    model, tokenizer = loaded(final)
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id == model.config.eos_token_id
    assert model.config.architectures == ["Qwen2ForCausalLM"]
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight  # tied, as it began
    assert tokenizer.chat_template
    assert not (final.parent / ".final-writing").exists()
    card = (final / "README.md").read_text()
    assert "the tiny model built in code" in card and "Rewards are" in card and "label_smoothing: 0.0" in card


def assert_merged_is_base_plus_adapter(base: Path, final: Path) -> None:
    """Logits of the merged model against peft's own reading of base and adapter."""
    merged, _ = loaded(final)
    start, _ = loaded(base)
    ids = torch.randint(5, 200, (3, 40), generator=torch.Generator().manual_seed(0))

    def logits(model: torch.nn.Module) -> Tensor:
        with torch.no_grad():
            return model(input_ids=ids).logits

    before = logits(start)
    adapted = PeftModel.from_pretrained(start, final / "adapter").eval()
    torch.testing.assert_close(logits(merged), logits(adapted), rtol=1e-4, atol=1e-4)
    assert (logits(merged) - before).abs().max() > 1e-2
    assert not any("lora" in name or "base_layer" in name for name in merged.state_dict())
    assert "merged; alone in `adapter/`" in (final / "adapter" / "README.md").read_text()


def lora_run(n: int, zero: str, base: Path, cwd: Path) -> Ended:
    """With weight decay and a bias-free rank that is no divisor of anything, on a model with trained weights."""
    adapter = ("adapter=lora", "adapter.rank=3", "adapter.alpha=12", "data=demo")
    return train(n, *STEPS, *adapter, f"model.path={base}", f"zero={zero}", "name=lora", cwd=cwd)


def test_lora_on_two_zero3_workers(one: Ended, tmp_path: Path) -> None:
    base = one.folder / "final"
    ended = lora_run(2, "zero3", base, tmp_path)
    assert ended.train[0]["loss"] == pytest.approx(0.6931472, abs=1e-6)
    assert_is_the_trained_policy(ended)
    assert_merged_is_base_plus_adapter(base, ended.folder / "final")


@pytest.mark.slow
@pytest.mark.parametrize(("n", "zero"), [(1, "off"), (2, "zero2"), (1, "zero3"), (2, "off")])
def test_lora_elsewhere(n: int, zero: str, one: Ended, tmp_path: Path) -> None:
    base = one.folder / "final"
    ended = lora_run(n, zero, base, tmp_path)
    assert_is_the_trained_policy(ended)
    assert_merged_is_base_plus_adapter(base, ended.folder / "final")


@pytest.mark.slow
@pytest.mark.parametrize(("n", "zero"), [(1, "off"), (2, "zero3")])
@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_gpt2(n: int, zero: str, adapter: str, one: Ended, tmp_path: Path) -> None:
    """Its weights stand transposed (Conv1D), its positions are a table, and it brings dropout that must be off."""
    base = tmp_path / "gpt2"
    tokenizer = AutoTokenizer.from_pretrained(one.folder / "final")
    torch.manual_seed(0)
    GPT2LMHeadModel(
        GPT2Config(vocab_size=len(tokenizer), n_embd=64, n_layer=2, n_head=4, n_positions=256, eos_token_id=4)
    ).save_pretrained(base)
    tokenizer.save_pretrained(base)
    settings = (f"adapter={adapter}", f"model.path={base}", "data=demo", f"zero={zero}", "name=run")
    ended = train(n, *STEPS, *settings, cwd=tmp_path)
    assert ended.train[0]["loss"] == pytest.approx(0.6931472, abs=1e-6)
    assert_is_the_trained_policy(ended)
    if adapter == "lora":
        assert_merged_is_base_plus_adapter(base, ended.folder / "final")
