"""Optional kernels: what is missing is said at the start; what is there goes into the model, its loss left out."""

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from dpo.data.batch import PromptGroup
from dpo.data.collate import collate
from dpo.errors import ModelError
from dpo.model import attention, kernels
from dpo.model.kernels import missing, use_kernels
from dpo.model.scorer import Scorer

CONFIG = {"vocab_size": 97, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}


def model() -> PreTrainedModel:
    torch.manual_seed(0)
    return Qwen2ForCausalLM(Qwen2Config(**CONFIG, **HEADS))


@pytest.fixture
def liger(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A stand-in for liger-kernel, which needs Triton to import: what it was called with."""
    called: dict[str, Any] = {}

    def apply(model: PreTrainedModel, **options: Any) -> None:
        called.update(options, model=model)

    module = ModuleType("liger_kernel.transformers.monkey_patch")
    vars(module).update(MODEL_TYPE_TO_APPLY_LIGER_FN={"qwen2": apply}, _apply_liger_kernel_to_instance=apply)
    for name in ("liger_kernel", "liger_kernel.transformers"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return called


@pytest.mark.unit
@pytest.mark.parametrize("kind", ["liger", "hub"])
def test_a_cpu_and_a_missing_package_are_both_named(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "find_spec", lambda name: None)
    monkeypatch.setattr(kernels, "is_kernels_available", lambda: False)
    no_gpu, no_package = missing(kind, "cpu")
    assert "needs a GPU" in no_gpu and "model.kernels=none" in no_gpu
    assert ".[kernels]" in no_package
    assert missing(kind, "cuda") == [no_package]
    assert missing("none", "cpu") == []


@pytest.mark.unit
@pytest.mark.parametrize("kind", ["liger", "hub"])
def test_nothing_is_missing_with_the_package_and_a_gpu(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "find_spec", lambda name: object())
    monkeypatch.setattr(kernels, "is_kernels_available", lambda: True)
    assert missing(kind, "cuda") == []


@pytest.mark.unit
def test_liger_patches_this_model_without_its_loss(liger: dict[str, Any]) -> None:
    patched = model()
    use_kernels(patched, "liger")
    assert liger == {"model": patched, "cross_entropy": False, "fused_linear_cross_entropy": False}


@pytest.mark.unit
def test_liger_without_kernels_for_the_architecture_is_refused(liger: dict[str, Any]) -> None:
    other = model()
    other.config.model_type = "something"
    with pytest.raises(ModelError, match="no kernels for something"):
        use_kernels(other, "liger")
    assert liger == {}


@pytest.mark.unit
def test_hub_that_changes_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers keeps the plain forward in silence when a kernel cannot be fetched."""

    def kernelize(model: PreTrainedModel, use: bool) -> None:
        norm = model.get_submodule("model.norm")
        norm.forward = nn.Identity().forward

    monkeypatch.setattr(PreTrainedModel, "set_use_kernels", lambda *_: None)
    with pytest.raises(ModelError, match=r"model\.kernels=hub"):
        use_kernels(model(), "hub")
    monkeypatch.setattr(PreTrainedModel, "set_use_kernels", kernelize)
    use_kernels(model(), "hub")


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["liger", "hub"])
def test_kernels_give_the_same_log_probabilities_and_gradients(kind: str) -> None:
    if problems := missing(kind, "cuda"):
        pytest.skip(problems[0])
    attention.register()
    group = PromptGroup(
        prompt_ids=[*range(3, 40)], responses=[[5, 6, 7], [8, 9]], pairs=[(0, 1)], pair_ids=["a"], sources=[""]
    )
    batch = collate([group], "packed").to(torch.device("cuda"))
    found = []
    for kernel in ("none", kind):  # the plain one first: liger also replaces the module's rotary function
        causal_lm = model().cuda().train()
        use_kernels(causal_lm, kernel)
        logps = Scorer(causal_lm, "packed").train()(batch)
        logps.sum().backward()
        found.append((logps.detach(), torch.cat([p.grad.flatten() for p in causal_lm.parameters()])))
    (expected, expected_gradient), (logps, gradient) = found
    torch.testing.assert_close(logps, expected, rtol=1e-4, atol=1e-4)
    assert (gradient - expected_gradient).norm() / expected_gradient.norm() < 1e-3
