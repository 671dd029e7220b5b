"""Checkpoints: weights and moments per parameter in float32, whatever the ZeRO stage and the number of workers, plus
the state of named providers as JSON. Nothing in them is pickled.

    checkpoints/step-00000200/
        state-00000-of-00002.safetensors    "weight/<parameter>", "exp_avg/<parameter>", "exp_avg_sq/<parameter>"
        manifest.json                       step, providers' state, files with sizes; written last
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any, Protocol

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from dpo.distributed.engine import Engine
from dpo.distributed.world import World
from dpo.errors import CheckpointError

MANIFEST = "manifest.json"


class Provider(Protocol):
    """Something with state that a resumed run needs."""

    def state_dict(self) -> dict[str, Any]:
        """JSON values."""

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, folder: Path, keep: int, world: World):
        self.folder, self.keep, self.world = folder, keep, world

    def newest(self) -> Path | None:
        """The newest complete checkpoint."""
        complete = sorted(path.parent for path in self.folder.glob(f"step-*/{MANIFEST}"))
        return complete[-1] if complete else None

    def save(self, step: int, engine: Engine, providers: dict[str, Provider]) -> Path:
        """Write a checkpoint under a temporary name, then rename it: a folder of that name is always whole."""
        final = self.folder / f"step-{step:08d}"
        temporary = self.folder / f".writing-{step:08d}"
        if self.world.is_main:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        self.world.barrier()
        self._write_share(temporary, engine)
        self.world.barrier()
        if self.world.is_main:
            _write_manifest(temporary, step, {name: p.state_dict() for name, p in providers.items()})
            shutil.rmtree(final, ignore_errors=True)
            temporary.rename(final)
            _sync(self.folder)
            self._forget_old()
        self.world.barrier()
        return final

    def _write_share(self, folder: Path, engine: Engine) -> None:
        """Every worker keeps and writes each n-th parameter of what all see passing by."""
        share: dict[str, Tensor] = {}
        for i, (name, tensors) in enumerate(engine.state()):
            if i % self.world.size == self.world.rank:
                share |= {f"{part}/{name}": tensor.contiguous() for part, tensor in tensors.items()}
        file = folder / f"state-{self.world.rank:05d}-of-{self.world.size:05d}.safetensors"
        save_file(share, file)
        _sync(file)

    def _forget_old(self) -> None:
        complete = sorted(path.parent for path in self.folder.glob(f"step-*/{MANIFEST}"))
        for old in complete[: -self.keep]:
            shutil.rmtree(old)


def find_checkpoint(path: Path) -> Path:
    """The checkpoint that `resume=<folder>` names: a checkpoint, or a run whose newest is taken.

    Raises:
        CheckpointError: there is none.
    """
    if (path / MANIFEST).is_file():
        return path
    complete = sorted(found.parent for found in path.glob(f"checkpoints/step-*/{MANIFEST}"))
    if not complete:
        raise CheckpointError(
            f"resume={path}: neither a checkpoint (no {MANIFEST}) nor a run with complete checkpoints."
        )
    return complete[-1]


def read_manifest(checkpoint: Path) -> dict[str, Any]:
    """Raises CheckpointError when a file is missing or has another size than when it was written."""
    manifest: dict[str, Any] = json.loads((checkpoint / MANIFEST).read_text())
    for name, size in manifest["files"].items():
        found = (checkpoint / name).stat().st_size if (checkpoint / name).is_file() else None
        if found != size:
            state = "is missing" if found is None else f"has {found} bytes instead of {size}"
            raise CheckpointError(
                f"checkpoint {checkpoint} is damaged: {name} {state}. Remove it to continue from the one before."
            )
    return manifest


def restore(checkpoint: Path, engine: Engine, providers: dict[str, Provider]) -> None:
    """Put the state back, tensor by tensor. A collective.

    Raises:
        CheckpointError: damaged, or of a model with other parameters.
    """
    manifest = read_manifest(checkpoint)
    places: dict[str, dict[str, Path]] = {}
    for file in manifest["files"]:
        with safe_open(checkpoint / file, framework="pt") as state:
            for key in state.keys():  # noqa: SIM118 - not a dictionary
                part, name = key.split("/", 1)
                places.setdefault(name, {})[part] = checkpoint / file
    expected = [name for name, _ in engine.parameters()]
    if set(expected) != places.keys():
        other = sorted(set(expected) ^ places.keys())[:3]
        raise CheckpointError(f"checkpoint {checkpoint} is of another model: parameters differ, for instance {other}.")
    for name in expected:
        tensors = {}
        for part, file in places[name].items():
            with safe_open(file, framework="pt") as state:
                tensors[part] = state.get_tensor(f"{part}/{name}")
        engine.load_state(name, tensors, manifest["step"])
    engine.finish_loading()
    for name, provider in providers.items():
        provider.load_state_dict(manifest["providers"][name])


def _write_manifest(folder: Path, step: int, providers: dict[str, Any]) -> None:
    files = {file.name: file.stat().st_size for file in sorted(folder.glob("*.safetensors"))}
    text = json.dumps({"format": 1, "step": step, "files": files, "providers": providers}, indent=2)
    with (folder / MANIFEST).open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
