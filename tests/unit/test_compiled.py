"""Compiled layers: the same numbers and names, one graph for all lengths, and none of it while generating."""

import copy

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters
from transformers import GPT2Config, GPT2LMHeadModel, MambaConfig, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from dpo.data.batch import Batch, PromptGroup
from dpo.data.collate import collate
from dpo.errors import ModelError
from dpo.model import attention
from dpo.model.activations import checkpoint_layers
from dpo.model.compiled import compile_layers
from dpo.model.scorer import Scorer

pytestmark = pytest.mark.unit

QUICK = "aot_eager"  # traces forward and backward as inductor does, without a minute of C++ compilation
QWEN2 = Qwen2Config(
    vocab_size=97,
    hidden_size=64,
    intermediate_size=160,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    pad_token_id=0,
    eos_token_id=None,
)


@pytest.fixture(autouse=True)
def fresh() -> None:
    attention.register()
    torch._dynamo.reset()
    counters.clear()
    torch.manual_seed(0)


def batch(prompt: int, *responses: int) -> Batch:
    def ids(length: int) -> list[int]:
        return torch.randint(3, 97, (length,)).tolist()

    group = PromptGroup(
        prompt_ids=ids(prompt), responses=[ids(n) for n in responses], pairs=[(0, 1)], pair_ids=["a"], sources=[""]
    )
    return collate([group], "packed")


def losses(model: PreTrainedModel, batches: list[Batch], compiled: str | None, checkpointing: str) -> list[float]:
    """Of some optimizer steps over rows of different lengths."""
    if checkpointing != "none":
        checkpoint_layers(model, checkpointing)
    if compiled:
        compile_layers(model, compiled)
    scorer = Scorer(model, "packed").train()
    optimizer = torch.optim.SGD(scorer.parameters(), lr=1e-3)
    found: list[Tensor] = []
    for row in batches:
        optimizer.zero_grad()
        loss = -scorer(row).mean()
        loss.backward()
        optimizer.step()
        found.append(loss.detach())
    return torch.stack(found).tolist()


def compare(backend: str, checkpointing: str) -> None:
    model = Qwen2ForCausalLM(copy.deepcopy(QWEN2))
    batches = [batch(9, 5, 7), batch(12, 3, 4), batch(4, 11, 6), batch(20, 2, 9), batch(7, 7, 7), batch(31, 8, 3)]
    eager = losses(copy.deepcopy(model), batches, None, checkpointing)
    names = [name for name, _ in model.named_parameters()]
    first = losses(model, batches[:2], backend, checkpointing)
    graphs = counters["stats"]["unique_graphs"]
    assert first == pytest.approx(eager[:2], abs=1e-4)
    assert 0 < graphs <= 6  # of one layer's pieces around attention, not of each layer
    rest = losses_go_on(model, batches[2:])
    assert rest == pytest.approx(eager[2:], abs=1e-4)
    assert counters["stats"]["unique_graphs"] == graphs, "another length made another graph"
    assert [name for name, _ in model.named_parameters()] == names


def losses_go_on(model: PreTrainedModel, batches: list[Batch]) -> list[float]:
    return losses(model, batches, None, "none")


@pytest.mark.parametrize("checkpointing", [pytest.param("none", marks=pytest.mark.slow), "full"])
def test_losses_over_steps_of_any_length_equal_eager(checkpointing: str) -> None:
    compare(QUICK, checkpointing)


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", ["none", "full"])
def test_inductor_gives_the_same(checkpointing: str) -> None:
    compare("inductor", checkpointing)


def test_generation_runs_as_it_is() -> None:
    model = Qwen2ForCausalLM(copy.deepcopy(QWEN2)).eval()
    prompt = torch.tensor([[3, 4, 5, 6]])
    expected = model.generate(prompt, max_new_tokens=6, do_sample=False)
    compile_layers(model, QUICK)
    scorer = Scorer(model, "packed")
    scorer(batch(9, 5, 7))
    graphs = counters["stats"]["unique_graphs"]
    with scorer.plain_model() as plain:
        assert torch.equal(plain.generate(prompt, max_new_tokens=6, do_sample=False), expected)
    assert counters["stats"]["unique_graphs"] == graphs > 0
    scorer(batch(9, 5, 7))


def test_layers_of_other_architectures_are_found() -> None:
    model = GPT2LMHeadModel(GPT2Config(vocab_size=97, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0))
    compile_layers(model, QUICK)
    assert all(block._compiled_call_impl for block in model.transformer.h)


def test_a_model_without_marked_layers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Qwen2ForCausalLM(copy.deepcopy(QWEN2))
    monkeypatch.setattr("dpo.model.compiled.GradientCheckpointingLayer", MambaConfig)
    with pytest.raises(ModelError, match=r"model\.compile=true"):
        compile_layers(model)
