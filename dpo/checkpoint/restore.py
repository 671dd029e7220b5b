"""Putting a checkpoint's state back, tensor by tensor."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from dpo.checkpoint.manifest import read_manifest
from dpo.checkpoint.save import Provider
from dpo.distributed.engine import Engine
from dpo.errors import CheckpointError


def restore(checkpoint: Path, engine: Engine, providers: dict[str, Provider]) -> None:
    """Put the state back. A collective. Whether the files are what was written was seen when the checkpoint was chosen.

    Raises:
        CheckpointError: of a model with other parameters, or of another version of this program.
    """
    manifest = read_manifest(checkpoint)
    if missing := providers.keys() - manifest.providers.keys():
        raise CheckpointError(
            f"checkpoint {checkpoint} lacks the state of {', '.join(sorted(missing))}: it is of another "
            "version of this program; start afresh with resume=never"
        )
    for name, provider in providers.items():  # the engine is one of them: before its tensors come
        provider.load_state_dict(manifest.providers[name])
    with ExitStack() as opened:
        try:
            files = [opened.enter_context(safe_open(checkpoint / name, framework="pt")) for name in manifest.files]
        except SafetensorError as error:
            raise CheckpointError(f"checkpoint {checkpoint}: not a safetensors file ({error})") from error
        _load_tensors(checkpoint, files, engine)


def _load_tensors(checkpoint: Path, files: list[Any], engine: Engine) -> None:
    places: dict[str, dict[str, Any]] = {}
    for file in files:
        for key in file.keys():  # noqa: SIM118 - not a dictionary
            part, name = key.split("/", 1)
            places.setdefault(name, {})[part] = file
    expected = [name for name, _ in engine.parameters()]
    if set(expected) != places.keys():
        other = sorted(set(expected) ^ places.keys())[:3]
        raise CheckpointError(f"checkpoint {checkpoint} is of another model: parameters differ, for instance {other}.")
    for name in expected:
        tensors = {part: file.get_tensor(f"{part}/{name}") for part, file in places[name].items()}
        engine.load_state(name, tensors)
    engine.finish_loading()
