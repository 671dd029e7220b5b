"""What the step asks of an engine, whichever library runs it."""

from collections.abc import Iterator
from typing import Protocol

from torch import Tensor, nn

from dpo.data.batch import Batch


class Engine(Protocol):
    """A trained model over all workers: forward, backward, step, and its state per parameter in float32."""

    scorer: nn.Module

    def forward(self, batch: Batch) -> Tensor:
        """Summed log-probability per response: [R] float32."""

    def backward(self, objective: Tensor, last: bool) -> None:
        """Add this worker's part of the gradient. `last` closes the step: gradients are then summed over workers."""

    def step(self, lr: float) -> Tensor:
        """Clip, apply one AdamW step and forget the gradients. Returns the gradient norm before clipping."""

    def parameters(self) -> list[tuple[str, nn.Parameter]]:
        """The trained parameters by name, in a fixed order."""

    def state(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """(name, {"weight", "exp_avg", "exp_avg_sq"}) of every trained parameter, whole.

        A collective: every worker iterates to the end, in the same order. The tensors may be the live ones, on any
        device: whoever keeps one copies it before asking for the next.
        """

    def load_state(self, name: str, tensors: dict[str, Tensor], step: int) -> None:
        """Put back what `state` gave, after `step` optimizer steps. A collective."""

    def finish_loading(self) -> None:
        """After the last `load_state`: moments take the form that the optimizer keeps them in."""


def trained(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """The parameters that learn, by their names in the Hugging Face model."""
    return [(name, p) for name, p in by_model_name(dict(module.named_parameters())).items() if p.requires_grad]


def by_model_name(parameters: dict[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """Those of a scorer, bare or in a DeepSpeed engine, by their names in the Hugging Face model."""
    return {name.removeprefix("module.").removeprefix("causal_lm."): p for name, p in parameters.items()}
