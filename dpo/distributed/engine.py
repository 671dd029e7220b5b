"""What the step asks of an engine, whichever library runs it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from dpo.data.batch import Batch


@dataclass(kw_only=True, slots=True)
class Stepped:
    """What became of an optimizer step; the same on every worker."""

    grad_norm: float  # before clipping; not finite: nothing was applied
    loss_scale: float | None = None  # fp16: by which this step's gradient was multiplied
    rescaled: bool = False  # fp16: not applied, and the next step's scale is smaller, which may cure it

    @property
    def applied(self) -> bool:
        return math.isfinite(self.grad_norm)


class Engine(Protocol):
    """A trained model over all workers: forward, backward, step, and its state per parameter in float32."""

    scorer: nn.Module

    @property
    def applied(self) -> int:
        """Optimizer steps that weights and moments have taken."""

    def forward(self, batch: Batch, aligned: bool = False) -> Tensor:
        """Summed log-probability per response: [R] float32; `aligned`: [2, R], see `Scorer`."""

    def backward(self, objective: Tensor, last: bool) -> None:
        """Add this worker's part of the gradient. `last` closes the step: gradients are then summed over workers."""

    def step(self, lr: float) -> Stepped:
        """Clip, apply one AdamW step and forget the gradients. Where the norm of the gradient over all workers is not
        finite, weights and moments stay as they are on every worker. Waits for the device once, to know."""

    def parameters(self) -> list[tuple[str, nn.Parameter]]:
        """The trained parameters by name, in a fixed order."""

    def state(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """(name, {"weight", "exp_avg", "exp_avg_sq"}) of every trained parameter, whole.

        A collective: every worker iterates to the end, in the same order. The tensors may be the live ones, on any
        device: whoever keeps one copies it before asking for the next.
        """

    def load_state(self, name: str, tensors: dict[str, Tensor]) -> None:
        """Put back what `state` gave; `load_state_dict` comes before it. A collective."""

    def finish_loading(self) -> None:
        """After the last `load_state`: moments take the form that the optimizer keeps them in."""

    def state_dict(self) -> dict[str, Any]:
        """What is not per parameter: `applied`, and under fp16 the loss scale. JSON values."""

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def trained(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """The parameters that learn, by their names in the Hugging Face model."""
    return [(name, p) for name, p in by_model_name(dict(module.named_parameters())).items() if p.requires_grad]


def by_model_name(parameters: dict[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """Those of a scorer, bare or in a DeepSpeed engine, by their names in the Hugging Face model."""
    return {name.removeprefix("module.").removeprefix("causal_lm."): p for name, p in parameters.items()}
