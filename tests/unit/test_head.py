"""The scoring head alone, against log softmax of whole logits."""

import pytest
import torch
from narrow_head import narrow_slices
from torch import nn

from dpo.model.head import ScoringHead

pytestmark = pytest.mark.unit

VOCAB = 97


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("frozen", [(), ("weight",), ("bias",), ("hidden",)], ids=lambda names: "".join(names) or "all")
@pytest.mark.parametrize("softcap", [3.0, None])
def test_head_with_bias_in_slices(
    softcap: float | None, frozen: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values and gradients of log softmax, for every set of inputs that need a gradient (LoRA freezes the head)."""
    narrow_slices(monkeypatch, 20)
    linear = nn.Linear(16, VOCAB)
    inputs = {"hidden": torch.randn(11, 16), "weight": linear.weight, "bias": linear.bias}
    for name, tensor in inputs.items():
        tensor.requires_grad_(name not in frozen)
    targets, slopes = torch.randint(VOCAB, (11,)), torch.randn(11)
    wanted = [tensor for tensor in inputs.values() if tensor.requires_grad]

    logits = 0.5 * nn.functional.linear(inputs["hidden"], linear.weight, linear.bias)
    if softcap:
        logits = softcap * torch.tanh(logits / softcap)
    expected = logits.log_softmax(-1)[torch.arange(11), targets]
    expected_gradients = torch.autograd.grad(expected, wanted, slopes)

    found = ScoringHead.take_over(linear, softcap=softcap, scale=0.5)(inputs["hidden"], targets)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    for gradient, other in zip(torch.autograd.grad(found, wanted, slopes), expected_gradients, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("softcap", [3.0, None])
def test_alignment_is_that_of_the_whole_softmax(softcap: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """And changes neither the log-probabilities nor their gradients; it has none itself."""
    linear = nn.Linear(16, VOCAB)
    hidden, targets, slopes = torch.randn(11, 16, requires_grad=True), torch.randint(VOCAB, (11,)), torch.randn(11)
    logits = 0.5 * linear(hidden).double()
    if softcap:
        logits = softcap * torch.tanh(logits / softcap)
    p = logits.softmax(-1)
    expected = p[torch.arange(11), targets].log() - (p**2).sum(1).log()
    scoring = ScoringHead.take_over(linear, softcap=softcap, scale=0.5)
    alone = scoring(hidden, targets)
    (gradient,) = torch.autograd.grad(alone, hidden, slopes)
    for width in (VOCAB, 20):
        narrow_slices(monkeypatch, width)
        logps, alignment = scoring(hidden, targets, aligned=True)
        torch.testing.assert_close(alignment.double(), expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(logps, alone, rtol=1e-6, atol=1e-6)
        (found,) = torch.autograd.grad((logps * slopes + 7 * alignment).sum(), hidden)
        torch.testing.assert_close(found, gradient, rtol=1e-5, atol=1e-6)


def test_head_without_scored_tokens() -> None:
    """A worker may hold none of a pair's answer: nothing comes out, and every gradient is there and zero."""
    scoring = ScoringHead.take_over(nn.Linear(16, VOCAB))
    hidden = torch.randn(0, 16, requires_grad=True)
    logps = scoring(hidden, torch.zeros(0, dtype=torch.int64))
    assert logps.shape == (0,) and logps.dtype == torch.float32
    logps.sum().backward()
    assert hidden.grad is not None and hidden.grad.shape == (0, 16)
    for parameter in scoring.parameters():
        assert parameter.grad is not None and not parameter.grad.any()


def test_logits_far_from_zero_stay_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    """exp(90) is beyond float32: the running sum must keep its largest logit apart."""
    narrow_slices(monkeypatch, 10)
    linear = nn.Linear(16, VOCAB)
    hidden, targets = 300 * torch.randn(11, 16), torch.randint(VOCAB, (11,))
    expected = linear(hidden).log_softmax(-1)[torch.arange(11), targets]
    assert expected.min() < -200
    found, alignment = ScoringHead.take_over(linear)(hidden, targets, aligned=True)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    squares = (2 * linear(hidden).log_softmax(-1)).logsumexp(1)
    torch.testing.assert_close(alignment, expected - squares, rtol=1e-5, atol=1e-4)


def test_bf16_head_sums_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights and hidden states are bf16, every sum is float32: far nearer to the truth than logits rounded to bf16."""
    rows, width = 512, 16
    narrow_slices(monkeypatch, 10)
    hidden = torch.randn(rows, width, dtype=torch.bfloat16)
    targets = torch.randint(VOCAB, (rows,))
    scoring = ScoringHead.take_over(nn.Linear(width, VOCAB, dtype=torch.bfloat16))
    logps = scoring(hidden, targets)
    assert logps.dtype == torch.float32
    logps.sum().backward()
    exact = nn.Linear(width, VOCAB).double()
    exact.load_state_dict({name: value.double() for name, value in scoring.state_dict().items()})
    true_logps = exact(hidden.double()).log_softmax(-1)[torch.arange(rows), targets]
    true_logps.sum().backward()
    torch.testing.assert_close(logps.double(), true_logps, rtol=1e-5, atol=1e-5)
    for parameter, true in zip(scoring.parameters(), exact.parameters(), strict=True):
        assert parameter.grad is not None and true.grad is not None
        assert parameter.grad.dtype == torch.bfloat16
        assert (parameter.grad - true.grad).norm() / true.grad.norm() < 3e-3  # rounded once: half of 2**-8 at most
