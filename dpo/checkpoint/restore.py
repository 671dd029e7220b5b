"""Putting a checkpoint's state back, tensor by tensor: worker 0 reads, and sends to the others."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from dpo.checkpoint.manifest import Manifest, read_manifest
from dpo.checkpoint.save import Provider
from dpo.distributed.engine import Engine
from dpo.distributed.world import World
from dpo.errors import CheckpointError


def restore(checkpoint: Path, engine: Engine, providers: dict[str, Provider], world: World) -> None:
    """Put the state back. A collective; only worker 0 needs to see the files. Whether they are what was written was
    seen when the checkpoint was chosen.

    Raises:
        CheckpointError: of a model with other parameters, or of another version of this program.
    """
    manifest = world.on_main(lambda: read_manifest(checkpoint))
    if missing := providers.keys() - manifest.providers.keys():
        raise CheckpointError(
            f"checkpoint {checkpoint} lacks the state of {', '.join(sorted(missing))}: it is of another "
            "version of this program; start afresh with resume=never"
        )
    for name, provider in providers.items():  # the engine is one of them: before its tensors come
        provider.load_state_dict(manifest.providers[name])
    with ExitStack() as opened:
        tensors = _Tensors(checkpoint, world)
        tensors.open(manifest, opened)
        expected = [name for name, _ in engine.parameters()]
        tensors.require(expected)
        for name in expected:
            engine.load_state(name, tensors.read(name))
    engine.finish_loading()


class _Tensors:
    """Of a checkpoint, by parameter. One reader: every worker would read all of it, 12 bytes per trained weight."""

    def __init__(self, checkpoint: Path, world: World):
        self.checkpoint, self.world = checkpoint, world
        self._files: dict[str, Any] = {}  # on worker 0, by "part/name"
        self._shapes: dict[str, dict[str, list[int]]] = {}  # by name and part

    def open(self, manifest: Manifest, opened: ExitStack) -> None:
        """`opened` closes them. Raises CheckpointError on all workers."""

        def find() -> dict[str, dict[str, list[int]]]:
            shapes: dict[str, dict[str, list[int]]] = {}
            for name in manifest.files:
                file = self._open(name, opened)
                for key in file.keys():  # noqa: SIM118 - not a dictionary
                    part, parameter = key.split("/", 1)
                    shapes.setdefault(parameter, {})[part] = file.get_slice(key).get_shape()
                    self._files[key] = file
            return shapes

        self._shapes = self.world.on_main(find)

    def _open(self, name: str, opened: ExitStack) -> Any:
        try:
            return opened.enter_context(safe_open(self.checkpoint / name, framework="pt"))
        except SafetensorError as error:
            raise CheckpointError(f"checkpoint {self.checkpoint}: not a safetensors file ({error})") from error

    def require(self, expected: list[str]) -> None:
        """Raises CheckpointError unless it holds these parameters and no others."""
        if other := sorted(set(expected) ^ self._shapes.keys())[:3]:
            raise CheckpointError(
                f"checkpoint {self.checkpoint} is of another model: parameters differ, for instance {other}."
            )

    def read(self, name: str) -> dict[str, Tensor]:
        """The same on every worker, in the host's memory. A collective."""
        found = {}
        for part, shape in self._shapes[name].items():
            key = f"{part}/{name}"
            own = self._files[key].get_tensor(key) if self.world.is_main else None
            found[part] = self.world.from_main(own, shape)
        return found
