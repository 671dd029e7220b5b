"""Less is kept for backward, somewhere else: the gradient stays, and what is computed again is what was promised."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, MambaConfig, Qwen2Config, Qwen2ForCausalLM

from dpo.data.batch import PromptGroup
from dpo.data.collate import collate
from dpo.errors import ModelError
from dpo.model import activations, attention
from dpo.model.activations import Offload, checkpoint_layers
from dpo.model.scorer import Scorer

pytestmark = pytest.mark.unit

LAYERS = 2
CONFIG = Qwen2Config(
    vocab_size=97,
    hidden_size=64,
    intermediate_size=160,
    num_hidden_layers=LAYERS,
    num_attention_heads=4,
    num_key_value_heads=2,
)
GROUP = PromptGroup(
    prompt_ids=[5, 6, 7, 8, 9], responses=[[3, 4, 5], [6, 7]], pairs=[(0, 1)], pair_ids=["a"], sources=[""]
)


class Count(TorchDispatchMode):
    """How often attention and each projection, by (input, output) width, really run."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[Any] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.split("::")[-1]
        if name in ("mm", "addmm"):
            self.seen[tuple(args[-1].shape)] += 1
        elif name in activations.ATTENTION:
            self.seen["attention"] += 1
        return func(*args, **(kwargs or {}))


def trained(kind: str, offload: bool = False) -> tuple[Counter[Any], Tensor]:
    """What forward and backward compute, and the gradient."""
    attention.register()
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(CONFIG)
    if kind != "none":
        checkpoint_layers(model, kind)
    scorer = Scorer(model, "packed", offload=offload).train()
    with Count() as count:
        scorer(collate([GROUP], "packed")).sum().backward()
    return count.seen, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


QUERY, FEED_FORWARD, DOWN = (64, 64), (64, 160), (160, 64)  # QUERY stands for the output projection too


def test_full_computes_all_again_but_the_last_product_and_selective_only_the_wide_ones() -> None:
    counted, gradients = zip(*(trained(kind) for kind in ("none", "full", "selective")), strict=True)
    none, full, selective = counted
    segments = 3
    assert none["attention"] == segments * LAYERS
    for more, kind in ((full, "full"), (selective, "selective")):
        again = {key: more[key] - none[key] for key in ("attention", QUERY, FEED_FORWARD, DOWN)}
        narrow = LAYERS if kind == "full" else 0
        assert again == {"attention": segments * narrow, QUERY: 2 * narrow, FEED_FORWARD: 2 * LAYERS, DOWN: 0}, kind
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0], rtol=1e-6, atol=1e-7)


def test_a_model_without_layers_to_checkpoint_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = AutoModelForCausalLM.from_config(
        MambaConfig(vocab_size=97, hidden_size=64, num_hidden_layers=1, state_size=4)
    )
    monkeypatch.setattr(type(model), "supports_gradient_checkpointing", False)
    with pytest.raises(ModelError, match=r"model\.gradient_checkpointing=full"):
        checkpoint_layers(model, "full")


def test_large_activations_leave_and_come_back_but_weights_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[tuple[int, ...]] = []
    to_host = activations._to_host

    def watched(tensor: Tensor) -> Any:
        saved = to_host(tensor)
        if isinstance(saved, tuple):
            moved.append(tuple(tensor.shape))
            assert saved[1].data_ptr() != tensor.data_ptr()
        return saved

    monkeypatch.setattr(activations, "_to_host", watched)
    layers = nn.Sequential(nn.Linear(600, 600), nn.Linear(600, 4), nn.Linear(4, 4))
    hidden = torch.randn(1000, 600, requires_grad=True)
    wanted = [hidden, *layers.parameters()]
    expected = torch.autograd.grad(layers(hidden).square().sum(), wanted)
    with Offload():
        out = layers(hidden).square().sum()
    assert moved == [(1000, 600)] * 2  # inputs of two layers: not their weights of 1.4 MB, nor what is small
    for found, other in zip(torch.autograd.grad(out, wanted), expected, strict=True):
        torch.testing.assert_close(found, other, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["none", "full", "selective"])
def test_offload_of_a_model_changes_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With full checkpointing what leaves are the inputs of the layers, and what follows the last of them."""
    monkeypatch.setattr(activations, "OFFLOAD_BYTES", 1)
    moved: list[Tensor] = []
    plain = activations._worth_moving
    monkeypatch.setattr(activations, "_worth_moving", lambda t: plain(t) and (moved.append(t) or True))
    _, expected = trained("none")
    assert not moved
    _, found = trained(kind, offload=True)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)
    wide = [t for t in moved if t.shape[-1] == CONFIG.intermediate_size]
    assert len(wide) > 0 if kind == "none" else not wide
    assert len([t for t in moved if t.shape[-1] == CONFIG.hidden_size]) >= LAYERS
