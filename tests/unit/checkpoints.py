"""Small checkpoints for the tests: an engine that is a dictionary, and the writing of one."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from one_worker import world
from torch import Tensor

from dpo.checkpoint.save import Checkpoints
from dpo.config.schema import CheckpointConfig


class DictEngine:
    """State of three parameters; `state` hands out the live tensors, as an engine may."""

    def __init__(self, seed: int = 0):
        generator = torch.Generator().manual_seed(seed)
        shapes = {"a.weight": (7, 5), "b.weight": (64, 33), "b.bias": (33,)}
        self.tensors = {
            name: {part: torch.randn(shape, generator=generator) for part in ("weight", "exp_avg", "exp_avg_sq")}
            for name, shape in shapes.items()
        }

    def parameters(self) -> list[tuple[str, Any]]:
        return [(name, parts["weight"]) for name, parts in self.tensors.items()]

    def state(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        yield from self.tensors.items()

    def load_state(self, name: str, tensors: dict[str, Tensor]) -> None:
        self.tensors[name] = {part: tensor.clone() for part, tensor in tensors.items()}

    def finish_loading(self) -> None: ...

    def train(self) -> None:
        """In place, as an optimizer does."""
        for parts in self.tensors.values():
            for tensor in parts.values():
                tensor.mul_(1.5).add_(1.0)

    def equals(self, other: "DictEngine") -> bool:
        return all(
            torch.equal(tensor, other.tensors[name][part])
            for name, parts in self.tensors.items()
            for part, tensor in parts.items()
        )


def provider(**state: Any) -> Any:
    """Something with state."""
    loaded: dict[str, Any] = {}
    return SimpleNamespace(state_dict=lambda: dict(state), load_state_dict=loaded.update, loaded=loaded)


def checkpoints(folder: Path, world: Any = world(), **settings: Any) -> Checkpoints:  # noqa: B008 - never changed
    folder.parent.mkdir(parents=True, exist_ok=True)
    return Checkpoints(folder, CheckpointConfig(**settings), world)


def written(folder: Path, *steps: int, **settings: Any) -> DictEngine:
    """Checkpoints of these steps, the state changing in between. Returns the engine as it was saved last."""
    engine, saving = DictEngine(), checkpoints(folder, **{"keep": len(steps), **settings})
    for step in steps:
        engine.train()
        saving.save(step, engine, {"progress": provider(step=step)}, {})
        saving.finish()
        assert not saving.problem
    return engine


def flip_bit(file: Path) -> None:
    """In the middle, the size unchanged."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
