"""Both layouts against the model's own logits: the same log-probabilities, hence the same training, whatever the row.

The yardstick is transformers itself: one forward per prompt + response, its own attention, its own logits. The models
are random and small; biases and norms are moved away from zero and one, so that none of them could be left out unseen.
"""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from narrow_head import narrow_slices
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    CohereConfig,
    Gemma2Config,
    GPT2Config,
    GraniteConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3NextConfig,
)

from dpo.config.schema import LoraAdapterConfig
from dpo.data.batch import PromptGroup
from dpo.data.collate import collate
from dpo.model import attention
from dpo.model.activations import checkpoint_layers
from dpo.model.adapter import add_lora
from dpo.model.load import without_dropout
from dpo.model.reference import AdapterOffReference
from dpo.model.scorer import Scorer, choose_layout, own_logps

pytestmark = pytest.mark.unit

VOCAB = 97
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,  # grouped-query attention: two query heads to each
    "max_position_embeddings": 128,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
PACKED: dict[str, PretrainedConfig] = {
    "qwen2, tied": Qwen2Config(**SIZES, tie_word_embeddings=True),
    "llama, untied": LlamaConfig(**SIZES, tie_word_embeddings=False),
    "llama, one head to each": LlamaConfig(**{**SIZES, "num_key_value_heads": 4}, tie_word_embeddings=False),
    "gpt2": GPT2Config(
        vocab_size=VOCAB, bos_token_id=0, eos_token_id=0, n_embd=64, n_layer=3, n_head=4, n_positions=128
    ),
    "mistral, window of 8": MistralConfig(**SIZES, sliding_window=8),
    "cohere, scaled logits": CohereConfig(**SIZES, logit_scale=0.25),
    "granite, divided logits": GraniteConfig(**SIZES, logits_scaling=4.0, attention_multiplier=0.2),
}
PADDED_ONLY: dict[str, tuple[PretrainedConfig, str]] = {  # with a part of the reason that the log gives
    "gemma2": (Gemma2Config(**SIZES, head_dim=16, sliding_window=8, final_logit_softcapping=2.0), "soft-capped"),
    "mamba": (MambaConfig(vocab_size=VOCAB, hidden_size=64, num_hidden_layers=2, state_size=4), "state"),
    "bloom": (BloomConfig(vocab_size=VOCAB, hidden_size=64, n_layer=2, n_head=4), "Bloom"),
    "qwen3-next": (
        Qwen3NextConfig(
            **SIZES,
            head_dim=16,
            linear_num_value_heads=4,
            linear_num_key_heads=2,
            linear_key_head_dim=16,
            linear_value_head_dim=16,
            num_experts=2,
            num_experts_per_tok=1,
            moe_intermediate_size=32,
            shared_expert_intermediate_size=32,
        ),
        "Qwen3Next",
    ),
}


def random_ids(count: int, generator: torch.Generator) -> list[int]:
    return torch.randint(3, VOCAB, (count,), generator=generator).tolist()


def some_groups() -> list[PromptGroup]:
    """A pair, three responses to one prompt, responses of one token only, responses that begin alike, and one that is
    the beginning of another; every row is longer than 8 tokens."""
    generator = torch.Generator().manual_seed(1)
    shapes = [(20, [12, 3], 0), (13, [7, 9, 1], 0), (11, [1, 1], 0), (1, [9, 10], 0), (9, [4, 8, 5], 6), (7, [0, 5], 4)]
    return [some_group(prompt, lengths, common, generator) for prompt, lengths, common in shapes]


def some_group(prompt: int, lengths: list[int], common: int, generator: torch.Generator) -> PromptGroup:
    """Responses of `common` tokens that all share and so many of their own."""
    shared = random_ids(common, generator)
    return PromptGroup(
        prompt_ids=random_ids(prompt, generator),
        responses=[shared + random_ids(length, generator) for length in lengths],
        pairs=[(0, other) for other in range(1, len(lengths))],
        pair_ids=[f"{prompt}-{other}" for other in range(1, len(lengths))],
        sources=[""],
    )


GROUPS = some_groups()
N_RESPONSES = sum(len(group.responses) for group in GROUPS)
# Different for every response and of both signs, as DPO's own: a response counted for another shows in the gradient.
SLOPES = torch.linspace(-1, 1.3, N_RESPONSES)


@pytest.fixture(autouse=True)
def registered() -> None:
    attention.register()
    torch.manual_seed(0)


def random_model(config: PretrainedConfig, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    model = AutoModelForCausalLM.from_config(copy.deepcopy(config)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.to(dtype)


def yardstick(model: PreTrainedModel) -> Tensor:
    """[R] by the model's own forward of one row at a time, with gradient."""
    sums = []
    for group in GROUPS:
        for response in group.responses:
            logits = model(input_ids=torch.tensor([group.prompt_ids + response]), use_cache=False).logits[0].float()
            start = len(group.prompt_ids) - 1  # the last prompt position predicts the first answer token
            answer = logits[start : start + len(response)].log_softmax(-1)
            sums.append(answer[torch.arange(len(response)), torch.tensor(response)].sum())
    return torch.stack(sums)


def learnt(model: nn.Module) -> Tensor:
    gradients = [p.grad for p in model.parameters() if p.requires_grad]
    assert all(g is not None for g in gradients)
    return torch.cat([g.flatten() for g in gradients])


def truth(model: PreTrainedModel) -> tuple[Tensor, Tensor]:
    """Log-probabilities [R] and gradient [all parameters] that every layout must give."""
    model = copy.deepcopy(model)
    logps = yardstick(model)
    (logps * SLOPES).sum().backward()
    return logps.detach(), learnt(model)


def scored(
    model: PreTrainedModel, layout: str, prepare: Callable[[PreTrainedModel], Any] = without_dropout
) -> tuple[Tensor, Tensor]:
    """The same by a Scorer in train mode."""
    model = copy.deepcopy(model)
    prepare(model)
    scorer = Scorer(model, layout).train()
    logps = scorer(collate(GROUPS, layout))
    (logps * SLOPES).sum().backward()
    return logps.detach(), learnt(model)


def assert_same(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], scale: float = 1.0) -> None:
    """Sums within 1e-5, gradients within 1e-4, both relative and times `scale`."""
    (logps, gradient), (own, own_gradient) = found, expected
    assert ((logps - own).abs() / own.abs()).max() < 1e-5 * scale
    assert (gradient - own_gradient).norm() / own_gradient.norm() < 1e-4 * scale


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("name", PACKED)
def test_layouts_equal_the_models_own_forward(name: str, layout: str) -> None:
    model = random_model(PACKED[name])
    assert choose_layout(model, layout) == (layout, None)
    assert_same(scored(model, layout), truth(model))


@pytest.mark.parametrize("name", PADDED_ONLY)
def test_other_architectures_fall_back_to_padded_and_say_why(name: str) -> None:
    config, reason = PADDED_ONLY[name]
    model = random_model(config)
    layout, why = choose_layout(model, "packed")
    assert layout == "padded"
    assert reason in str(why)
    assert_same(scored(model, layout), truth(model))


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("name", ["qwen2, tied", "llama, untied", "gpt2", "mistral, window of 8"])
@pytest.mark.parametrize("kind", ["full", "selective"])
def test_gradient_checkpointing_changes_nothing(kind: str, name: str, layout: str) -> None:
    model = random_model(PACKED[name])
    computed: list[int] = []

    def prepare(model: PreTrainedModel) -> None:
        without_dropout(model)
        checkpoint_layers(model, kind)
        mlp = model.base_model.get_submodule("h.0.mlp" if name == "gpt2" else "layers.0.mlp")
        mlp.register_forward_pre_hook(lambda *_: computed.append(1))

    assert_same(scored(model, layout, prepare), truth(model))
    assert len(computed) == 2  # once more in backward: it was on


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("checkpointing", ["none", "full", "selective"])
@pytest.mark.parametrize("name", ["llama, untied", "qwen2, tied", "gpt2"])
def test_lora_learns_the_same_and_its_base_is_the_reference(name: str, checkpointing: str, layout: str) -> None:
    base = random_model(PACKED[name])
    base_logps, _ = truth(base)
    model = copy.deepcopy(base)
    if checkpointing != "none":
        checkpoint_layers(model, checkpointing)
    adapted = add_lora(model, LoraAdapterConfig(rank=4, alpha=8))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)  # B begins at zero: A would have no gradient
    without_dropout(model)
    expected = truth(model)
    scorer = Scorer(model, layout).train()
    batch = collate(GROUPS, layout)
    reference = AdapterOffReference(scorer, adapted).logps(batch)
    logps = scorer(batch)
    (logps * SLOPES).sum().backward()
    assert_same((logps.detach(), learnt(model)), expected)
    assert ((reference - base_logps).abs() / base_logps.abs()).max() < 1e-5
    assert (logps - reference).abs().max() > 1e-2  # the adapter does something
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)


def test_responses_do_not_see_each_other() -> None:
    """Other answers and other groups in the row leave a response's log-probability and its place as they are."""
    model = random_model(PACKED["mistral, window of 8"])
    scorer = Scorer(model, "packed").eval()
    with torch.no_grad():
        together = scorer(collate(GROUPS, "packed"))
        reverse = scorer(collate(GROUPS[::-1], "packed"))
        alone = torch.cat([scorer(collate([group], "packed")) for group in GROUPS])
    last = torch.cat(reverse.split([len(g.responses) for g in GROUPS[::-1]])[::-1])
    assert ((together - alone).abs() / alone.abs()).max() < 1e-5
    assert ((together - last).abs() / alone.abs()).max() < 1e-5


def test_a_prompt_is_computed_once() -> None:
    """The packed row holds every prompt once and no padding; the padded rows hold it once per response."""
    packed, padded = collate(GROUPS, "packed"), collate(GROUPS, "padded")
    assert packed.ids.numel() == sum(group.row_tokens for group in GROUPS)
    assert padded.ids.shape == (N_RESPONSES, max(group.longest for group in GROUPS))
    assert int(padded.mask.sum()) == sum(
        len(group.prompt_ids) + len(response) - 1 for group in GROUPS for response in group.responses
    )
    for batch in (packed, padded):
        assert batch.counts.tokens == sum(len(group.prompt_ids) + group.response_tokens for group in GROUPS)
        assert batch.pairs.tolist() == [[0, 1], [2, 3], [2, 4], [5, 6], [7, 8], [9, 10], [9, 11], [12, 13]]
    for name in ("targets", "response", "tokens", "pairs"):
        assert torch.equal(getattr(packed, name), getattr(padded, name))


def test_varlen_tables_describe_the_same_segments() -> None:
    """What one variable-length call per layer reads on a GPU says the same as the bounds that a CPU follows."""
    segments = collate(GROUPS, "packed").segments
    assert segments is not None
    for i, (start, end, prompt_start, prompt_end) in enumerate(segments.bounds):
        first_query, last_query = segments.query_offsets[i : i + 2].tolist()
        first_key, last_key = segments.key_offsets[i : i + 2].tolist()
        assert (first_query, last_query) == (start, end)  # segments lie behind each other in the row
        expected = [*range(prompt_start, prompt_end), *range(start, end)]
        assert segments.key_index[first_key:last_key].tolist() == expected
    assert segments.max_query == max(end - start for start, end, *_ in segments.bounds)
    assert segments.max_key == max(end - start + q - p for start, end, p, q in segments.bounds)


def test_a_filler_runs_forward_and_counts_nothing() -> None:
    for layout in ("packed", "padded"):
        filler = collate([], layout)
        assert (filler.n_pairs, filler.counts.tokens, len(filler.pairs), filler.pair_ids) == (0, 0, 0, [])
        logps = Scorer(random_model(PACKED["qwen2, tied"]), layout)(filler)
        assert logps.shape == (1,) and logps.isfinite().all()


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("name", ["qwen2, tied", "gpt2", "gemma2"])
def test_slices_of_the_head_change_nothing(name: str, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices of 10 words, the last of 7: the same sums and gradients."""
    config = PACKED[name] if name in PACKED else PADDED_ONLY[name][0]
    model = random_model(config)
    widths = narrow_slices(monkeypatch, 10)
    layout, _ = choose_layout(model, layout)
    assert_same(scored(model, layout, without_dropout), truth(model))
    assert widths == 2 * (9 * [10] + [7])  # forward and again in backward


@pytest.mark.parametrize("name", ["qwen2, tied", "llama, untied"])
def test_bf16_layouts_agree_to_rounding(name: str) -> None:
    """In bf16 both layouts round differently; they stay as near to the float32 truth as the model's own forward."""
    model = random_model(PACKED[name])
    logps, gradient = truth(model)
    own_logps_bf16, own_gradient = truth(copy.deepcopy(model).bfloat16())
    own_error = ((own_logps_bf16 - logps).abs() / logps.abs()).max()
    own_gradient_error = (own_gradient - gradient).norm() / gradient.norm()
    for layout in ("packed", "padded"):
        found_logps, found_gradient = scored(copy.deepcopy(model).bfloat16(), layout)
        assert ((found_logps - logps).abs() / logps.abs()).max() < 3 * own_error
        assert (found_gradient - gradient).norm() / gradient.norm() < 3 * own_gradient_error


def test_plain_model_gives_its_own_logits_back() -> None:
    """For generation the scorer lends the model out with its own attention, and takes it back as it was."""
    model = random_model(PACKED["llama, untied"])
    expected, _ = truth(model)
    scorer = Scorer(model, "packed").train()
    with torch.no_grad(), scorer.plain_model() as plain:
        assert not plain.training
        found = yardstick(plain)
        logps = own_logps(plain, torch.tensor(GROUPS[0].prompt_ids + GROUPS[0].responses[0]), 20)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(logps, expected[0], rtol=1e-6, atol=1e-6)
    assert scorer.training and model.training
    torch.testing.assert_close(scorer(collate(GROUPS, "packed")), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("wanted", [True, False])
def test_the_base_models_dropout_is_off_unless_asked_for(wanted: bool) -> None:
    """GPT-2 brings 0.1 on embeddings, attention and residuals; its config keeps the values either way."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=97, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
    model = AutoModelForCausalLM.from_config(config)
    if not wanted:
        without_dropout(model)
    scorer = Scorer(model, "packed").train()
    group = PromptGroup(
        prompt_ids=[3, 4, 5], responses=[[6, 7, 8], [9, 10]], pairs=[(0, 1)], pair_ids=["a"], sources=[""]
    )
    first, second = (scorer(collate([group], "packed")) for _ in range(2))
    assert torch.equal(first, second) is not wanted
    assert model.config.attn_pdrop == 0.1
