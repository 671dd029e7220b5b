"""Which checkpoints stay, and that no removal leaves anything half done."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from checkpoints import flip_bit, written

from dpo.checkpoint.damage import damage
from dpo.checkpoint.folders import checkpoints_in, clear_leftovers, damaged_in, put_in_place, remove, set_aside
from dpo.checkpoint.manifest import Manifest
from dpo.checkpoint.retain import Whole, best_of, superfluous, whole_in
from dpo.config.schema import CheckpointConfig

pytestmark = pytest.mark.unit


def some(*metrics: dict[str, float]) -> list[Whole]:
    """Checkpoints of steps 1, 2, ... with these held-out numbers."""
    return [
        Whole(
            folder=Path(f"step-{step:08d}"),
            manifest=Manifest(
                step=step, world_size=1, zero_stage=0, created="", files={}, providers={}, metrics=measured
            ),
        )
        for step, measured in enumerate(metrics, start=1)
    ]


def kept(checkpoints: list[Whole], **settings: Any) -> list[int]:
    gone = superfluous(checkpoints, CheckpointConfig(**settings))
    return [c.manifest.step for c in checkpoints if c not in gone]


NOTHING: dict[str, float] = {}


@pytest.mark.parametrize(
    ("losses", "keep", "expected"),
    [
        ([0.6, 0.5, 0.55, 0.7], 1, [2, 4]),
        ([0.6, 0.5, 0.55, 0.7], 2, [2, 3, 4]),
        ([0.6, 0.5, 0.55, 0.4], 2, [3, 4]),
        ([0.6], 3, [1]),
        ([0.5, 0.5, 0.9], 1, [2, 3]),  # of equals the newest
        ([0.6, float("nan"), 0.9], 1, [1, 3]),
        ([], 1, []),
    ],
)
def test_the_newest_and_the_best(losses: list[float], keep: int, expected: list[int]) -> None:
    assert kept(some(*({"loss": loss} for loss in losses)), keep=keep) == expected


def test_best_counts_only_where_it_was_measured() -> None:
    checkpoints = some(NOTHING, {"loss": 0.6}, NOTHING, {"rewards/accuracies": 0.9}, NOTHING)
    assert kept(checkpoints, keep=1) == [2, 5]
    assert kept(checkpoints, keep=1, best="rewards/accuracies") == [4, 5]
    assert kept(checkpoints, keep=1, best="rewards/margins") == [5]
    assert kept(checkpoints, keep=1, best=None) == [5]


def test_directions() -> None:
    checkpoints = some({"loss": 0.1, "rewards/accuracies": 0.2}, {"loss": 0.9, "rewards/accuracies": 0.8})
    assert [best_of(checkpoints, m) for m in ("loss", "rewards/accuracies")] == checkpoints


def test_damaged_ones_do_not_count(tmp_path: Path) -> None:
    """With keep=1 a truncated newest one must not cost the only good one."""
    written(tmp_path, 1, 2, 3)
    for file in (tmp_path / "step-00000003").glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:-1])
    whole = whole_in(tmp_path, read=False)
    assert kept(whole, keep=1) == [2]
    assert [c.manifest.step for c in superfluous(whole, CheckpointConfig(keep=1))] == [1]
    for file in (tmp_path / "step-00000002").glob("*.safetensors"):
        flip_bit(file)
    assert kept(whole_in(tmp_path, read=True), keep=1) == [1]


def test_a_save_removes_what_need_not_stay(tmp_path: Path) -> None:
    written(tmp_path, 1, 2, 3, 4, 5, keep=2)
    assert [path.name for path in checkpoints_in(tmp_path)] == ["step-00000004", "step-00000005"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000004", "step-00000005"]


def test_a_kill_in_the_middle_of_a_removal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, 1, 2)

    def killed(path: Path) -> None:
        (path / "manifest.json").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        remove(tmp_path / "step-00000001")
    monkeypatch.undo()
    assert [path.name for path in checkpoints_in(tmp_path)] == ["step-00000002"]
    clear_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000002"]


def test_a_kill_in_the_middle_of_a_save(tmp_path: Path) -> None:
    """Without a manifest it is thrown away; with one only the name was lacking."""
    written(tmp_path, 1, 2, 3)
    (tmp_path / "step-00000002").rename(tmp_path / ".writing-step-00000002")
    (tmp_path / "step-00000003").rename(tmp_path / ".writing-step-00000003")
    (tmp_path / ".writing-step-00000003" / "manifest.json").unlink()
    clear_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001", "step-00000002"]
    assert damage(tmp_path / "step-00000002") == []
    clear_leftovers(tmp_path / "nothing here")


@pytest.mark.parametrize("killed_at", [1, 2])
def test_a_kill_while_a_checkpoint_of_the_same_step_is_replaced(
    killed_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At either rename one whole checkpoint is found again."""
    written(tmp_path / "new", 5)
    written(tmp_path, 5)
    (tmp_path / "new" / "step-00000005").rename(tmp_path / ".writing-step-00000005")
    (tmp_path / "new").rmdir()
    renames, real = [], Path.rename

    def rename(self: Path, target: Path) -> Path:
        renames.append(self)
        if len(renames) == killed_at:
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        put_in_place(tmp_path / ".writing-step-00000005")
    monkeypatch.undo()
    clear_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000005"]
    assert damage(tmp_path / "step-00000005") == []


def test_a_rename_that_fails_gives_the_old_one_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, 5)
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if self.name.startswith(".writing"):
            raise OSError(5, "Input/output error")
        return real(self, target)

    (tmp_path / ".writing-step-00000005").mkdir()
    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OSError, match="Input/output"):
        put_in_place(tmp_path / ".writing-step-00000005")
    assert damage(tmp_path / "step-00000005") == []


def test_set_aside_twice(tmp_path: Path) -> None:
    for _ in range(2):
        written(tmp_path, 1)
        set_aside(tmp_path / "step-00000001")
    assert [path.name for path in damaged_in(tmp_path)] == ["step-00000001.damaged", "step-00000001.damaged.1"]
    assert checkpoints_in(tmp_path) == []


def test_order_is_by_step_and_links_are_passed_over(tmp_path: Path) -> None:
    written(tmp_path, 99_999_999, 100_000_000)
    (tmp_path / "step-00000001").symlink_to(tmp_path / "step-99999999")
    (tmp_path / "step-00000002").write_text("a file")
    assert [path.name for path in checkpoints_in(tmp_path)] == ["step-99999999", "step-100000000"]
