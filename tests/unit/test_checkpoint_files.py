"""One checkpoint on disk: what is written is what any safetensors reader finds, and whatever changes later is seen."""

import hashlib
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from checkpoints import DictEngine, flip_bit, provider, written
from one_worker import world
from safetensors.torch import load_file

from dpo.checkpoint.damage import damage
from dpo.checkpoint.manifest import MANIFEST, FileRecord, Manifest, read_manifest, write_manifest
from dpo.checkpoint.restore import restore
from dpo.checkpoint.tensor_file import write_tensors
from dpo.errors import CheckpointError

pytestmark = pytest.mark.unit

STATE = "state-00000-of-00001.safetensors"


@pytest.fixture
def one(tmp_path: Path) -> Path:
    written(tmp_path / "checkpoints", 3)
    return tmp_path / "checkpoints" / "step-00000003"


def test_any_reader_of_safetensors_finds_the_tensors(tmp_path: Path) -> None:
    tensors = {
        "a": torch.randn(3, 5).contiguous(),
        "scalar": torch.tensor(1.5),
        "empty": torch.empty(0, 4),
        "large": torch.randn(5_000_000),  # more than one chunk
        "ümlaut": torch.tensor([float("nan"), -0.0, float("inf")]),
    }
    path = tmp_path / "file.safetensors"
    record = write_tensors(path, tensors)
    found = load_file(path)
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].shape == tensor.shape
        assert torch.equal(found[name].view(torch.int32), tensor.view(torch.int32)), name  # bit for bit, NaN too
    assert record == FileRecord(size=path.stat().st_size, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def test_an_old_longer_file_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    path.write_bytes(b"x" * 10_000)
    assert write_tensors(path, {"a": torch.zeros(2)}).size == path.stat().st_size < 200


def test_manifest_comes_back_as_it_was(tmp_path: Path) -> None:
    manifest = Manifest(
        step=7,
        world_size=4,
        zero_stage=3,
        created="2026-01-02T03:04:05+00:00",
        files={"a.safetensors": FileRecord(size=3, sha256="ab")},
        providers={"progress": {"step": 7, "loss": 0.1 + 0.2, "none": None, "text": "ü"}},
        metrics={"loss": float("nan")},
    )
    write_manifest(tmp_path, manifest)
    found = read_manifest(tmp_path)
    assert repr(found) == repr(manifest)
    assert manifest.size == 3


def truncate(checkpoint: Path) -> None:
    os.truncate(checkpoint / STATE, 100)


def empty(checkpoint: Path) -> None:
    (checkpoint / STATE).write_bytes(b"")


def lose(checkpoint: Path) -> None:
    (checkpoint / STATE).unlink()


def lose_manifest(checkpoint: Path) -> None:
    (checkpoint / MANIFEST).unlink()


def halve_manifest(checkpoint: Path) -> None:
    os.truncate(checkpoint / MANIFEST, (checkpoint / MANIFEST).stat().st_size // 2)


def empty_manifest(checkpoint: Path) -> None:
    (checkpoint / MANIFEST).write_text("")


def other_json(checkpoint: Path) -> None:
    (checkpoint / MANIFEST).write_text("[1, 2]")


def another_step(checkpoint: Path) -> None:
    text = (checkpoint / MANIFEST).read_text()
    (checkpoint / MANIFEST).write_text(text.replace('"step": 3', '"step": 7'))


def another_size(checkpoint: Path) -> None:
    text = (checkpoint / MANIFEST).read_text()
    size = (checkpoint / STATE).stat().st_size
    (checkpoint / MANIFEST).write_text(text.replace(f'"size": {size}', f'"size": {size + 1}'))


def binary_manifest(checkpoint: Path) -> None:
    (checkpoint / MANIFEST).write_bytes(b"\xff\xfe\x00")


FAULTS: dict[Callable[[Path], None], str] = {
    truncate: f"{STATE} has 100 bytes instead of",
    empty: f"{STATE} has 0 bytes instead of",
    lose: f"{STATE} is missing",
    lambda c: flip_bit(c / STATE): f"{STATE} is not what was written",
    lose_manifest: f"{MANIFEST} is missing",
    halve_manifest: f"{MANIFEST} cannot be read",
    empty_manifest: f"{MANIFEST} cannot be read",
    other_json: f"{MANIFEST} cannot be read",
    binary_manifest: f"{MANIFEST} cannot be read",
    another_step: f"{MANIFEST} is not what was written",
    another_size: f"{MANIFEST} is not what was written",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_every_damage_is_seen_and_named(fault: Callable[[Path], None], one: Path) -> None:
    assert damage(one) == damage(one, read=False) == []
    fault(one)
    (line,) = damage(one)
    assert line.startswith(FAULTS[fault])


def test_sizes_alone_do_not_show_a_flipped_bit(one: Path) -> None:
    """Why checksums are read before a run continues from it."""
    flip_bit(one / STATE)
    assert damage(one, read=False) == []
    assert len(damage(one)) == 1


def test_files_are_shared_out(one: Path) -> None:
    flip_bit(one / STATE)
    assert damage(one, slice(1, None, 2)) == []
    assert len(damage(one, slice(0, None, 2))) == 1


@pytest.mark.parametrize("format_", [1, 99])
def test_another_version_is_no_damage(format_: int, one: Path) -> None:
    """It must not be set aside: the version that wrote it can read it."""
    body = json.loads((one / MANIFEST).read_text())
    del body["sha256"]
    body["format"] = format_
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    (one / MANIFEST).write_text(json.dumps({"sha256": digest, **body}))
    with pytest.raises(CheckpointError, match=f"has format {format_}"):
        damage(one)


@pytest.mark.parametrize("name", ["../other.safetensors", "/etc/passwd", "state.pt", "a/b.safetensors"])
def test_a_manifest_does_not_lead_elsewhere(name: str, one: Path) -> None:
    manifest = read_manifest(one)
    manifest.files = {name: FileRecord(size=0, sha256="")}
    write_manifest(one, manifest)
    (line,) = damage(one)
    assert name in line


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, sign: Path):
        self.sign = sign

    def __reduce__(self) -> tuple[Callable[[Path], object], tuple[Path]]:
        return Path.touch, (self.sign,)


def test_pickles_are_never_loaded(one: Path, tmp_path: Path) -> None:
    """Planted beside, where torch's own names would be; and in place of the tensors, manifest and all."""
    sign = tmp_path / "executed"
    trap = pickle.dumps(Trap(sign))
    pickle.loads(trap)
    assert sign.exists(), "the trap works"
    sign.unlink()
    for name in ("pytorch_model.bin", "optimizer.pt", "state-00000-of-00001.pt", "zz.safetensors", "data.pkl"):
        (one / name).write_bytes(trap)
    engine, progress = DictEngine(1), provider()
    assert damage(one) == []
    restore(one, engine, {"progress": progress}, world())  # type: ignore[arg-type]
    assert progress.loaded["step"] == 3
    (one / STATE).write_bytes(trap)
    assert len(damage(one)) == 1
    manifest = read_manifest(one)
    manifest.files = {STATE: FileRecord(size=len(trap), sha256=hashlib.sha256(trap).hexdigest())}
    write_manifest(one, manifest)
    assert damage(one) == []
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        restore(one, engine, {"progress": progress}, world())  # type: ignore[arg-type]
    assert not sign.exists()


def test_another_model_and_missing_state_are_refused(one: Path) -> None:
    engine = DictEngine()
    engine.tensors["c.weight"] = engine.tensors.pop("a.weight")
    with pytest.raises(CheckpointError, match="another model"):
        restore(one, engine, {}, world())  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="lacks the state of scaler"):
        restore(one, DictEngine(), {"scaler": provider()}, world())  # type: ignore[arg-type]
