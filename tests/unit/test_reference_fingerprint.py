"""Which model gave a value: its weights by content, never its name, size or time stamps."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from dpo import digests
from dpo.digests import FileDigests
from dpo.errors import ModelError
from dpo.model.source import ModelSource
from dpo.model.tiny import build_tiny_model
from dpo.reference.fingerprint import fingerprint

pytestmark = pytest.mark.unit


@pytest.fixture
def source(tmp_path: Path) -> ModelSource:
    build_tiny_model(0).save_pretrained(tmp_path / "model")
    return ModelSource(path=str(tmp_path / "model"), revision=None, build=None, trust_remote_code=False, seed=0)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read; what was written a moment ago counts as settled."""
    found: list[Path] = []
    right = digests.sha256
    monkeypatch.setattr(digests, "sha256", lambda file: found.append(file) or right(file))
    monkeypatch.setattr(digests, "SETTLED_SECONDS", -1.0)
    return found


def digest(source: ModelSource, cache: Path, precision: str = "fp32") -> str:
    return fingerprint(source, precision, FileDigests(cache, "reference")).digest


def other_weights(file: Path) -> None:
    """Another content of the same size, with the old time of modification."""
    before = file.stat()
    data = bytearray(file.read_bytes())
    data[-5] ^= 64
    file.write_bytes(data)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)


def test_weights_are_read_once(source: ModelSource, tmp_path: Path, reads: list[Path]) -> None:
    first = digest(source, tmp_path)
    assert digest(source, tmp_path) == first
    assert [file.name for file in reads] == ["model.safetensors"]
    (tmp_path / digests.FILE).write_text("{ not JSON")
    assert digest(source, tmp_path) == first
    assert len(reads) == 2


def test_a_folder_that_remembers_nothing(source: ModelSource, tmp_path: Path, reads: list[Path]) -> None:
    """Somebody else's cache, to be read only: a model is then read every time."""
    (tmp_path / digests.FILE).mkdir()
    assert digest(source, tmp_path) == digest(source, tmp_path)
    assert len(reads) == 2


def test_another_checkpoint_under_the_same_name(source: ModelSource, tmp_path: Path, reads: list[Path]) -> None:
    """Same path, size and time of modification: only the time of change tells, and that cannot be set."""
    first = digest(source, tmp_path)
    other_weights(Path(str(source.path), "model.safetensors"))
    assert digest(source, tmp_path) != first
    assert len(reads) == 2


def test_a_file_written_a_moment_ago_is_not_remembered(source: ModelSource, tmp_path: Path) -> None:
    """Within the resolution of the time stamps a change would not show."""
    first = digest(source, tmp_path)
    assert not (tmp_path / digests.FILE).exists()
    other_weights(Path(str(source.path), "model.safetensors"))
    assert digest(source, tmp_path) != first


def test_a_copy_elsewhere_is_the_same_model(source: ModelSource, tmp_path: Path) -> None:
    Path(str(source.path)).rename(tmp_path / "moved")
    moved = replace(source, path=str(tmp_path / "moved"))
    build_tiny_model(0).save_pretrained(tmp_path / "model")
    assert digest(source, tmp_path) == digest(moved, tmp_path)


def test_every_shard_counts(source: ModelSource, tmp_path: Path) -> None:
    folder = Path(str(source.path))
    tensors = sorted(load_file(folder / "model.safetensors").items())
    half = len(tensors) // 2
    (folder / "model.safetensors").unlink()
    places = {}
    for name, part in (("one.safetensors", dict(tensors[:half])), ("two.safetensors", dict(tensors[half:]))):
        save_file(part, folder / name, metadata={"format": "pt"})
        places |= dict.fromkeys(part, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    found = {digest(source, tmp_path)}
    for name in ("one.safetensors", "two.safetensors"):
        other_weights(folder / name)
        found.add(digest(source, tmp_path))
    assert len(found) == 3
    (folder / "two.safetensors").unlink()
    with pytest.raises(ModelError, match=r"two\.safetensors"):
        digest(source, tmp_path)


def test_the_base_of_an_adapter_counts(source: ModelSource, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "config.json").write_text((Path(str(source.path)) / "config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": source.path}))
    (folder / "adapter_model.safetensors").write_bytes(b"1" * 100)
    adapter = replace(source, path=str(folder))
    found = {digest(adapter, tmp_path)}
    other_weights(Path(str(source.path), "model.safetensors"))
    found.add(digest(adapter, tmp_path))
    (folder / "adapter_model.safetensors").write_bytes(b"2" * 100)
    found.add(digest(adapter, tmp_path))
    assert len(found) == 3


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"rope_theta": 5e5}, False),
        ({"rms_norm_eps": 1e-5}, False),
        ({"pad_token_id": 1, "transformers_version": "9.9", "dtype": "bfloat16", "use_cache": False}, True),
    ],
)
def test_what_counts_in_config_json(change: dict[str, object], same: bool, source: ModelSource, tmp_path: Path) -> None:
    first = digest(source, tmp_path)
    file = Path(str(source.path), "config.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    assert (digest(source, tmp_path) == first) is same


def test_precision_and_scoring_count(source: ModelSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {digest(source, tmp_path, precision) for precision in ("fp32", "bf16", "fp16")}
    monkeypatch.setattr("dpo.reference.fingerprint.SCORING_VERSION", 2)
    assert len(found | {digest(source, tmp_path)}) == 4


def test_a_model_built_in_code_is_its_seed(tmp_path: Path) -> None:
    built = ModelSource(path=None, revision=None, build="tiny", trust_remote_code=False, seed=0)
    assert digest(built, tmp_path) == digest(built, tmp_path) != digest(replace(built, seed=1), tmp_path)


def test_a_folder_without_weights(source: ModelSource, tmp_path: Path) -> None:
    Path(str(source.path), "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no weight files"):
        digest(source, tmp_path)
