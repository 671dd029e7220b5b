"""Memory that a run may come to hold: of the machine, within the limits of its control group."""

from pathlib import Path

import pytest
import torch

from dpo.available_memory import UNLIMITED, available_gib, group_limits

pytestmark = pytest.mark.unit

GIB = 2**30


def made(folder: Path, **files: int | str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name.replace("__", ".")).write_text(f"{value}\n")


def limits(folder: Path, line: str, swap: int = 0) -> list[int]:
    membership = folder / "membership"
    membership.write_text(f"{line}\n")
    return group_limits(membership, folder, swap)


def test_memory_of_this_machine_is_known() -> None:
    whole, half = (available_gib(torch.device("cpu"), n) for n in (1, 2))
    assert 0 < half < whole < 2**20


def test_a_job_of_a_scheduler_is_limited_in_a_group_of_its_own(tmp_path: Path) -> None:
    made(tmp_path / "slurm", memory__max="max")
    made(tmp_path / "slurm" / "job_7", memory__max=4 * GIB)
    assert min(limits(tmp_path, "0::/slurm/job_7/step_0")) == 4 * GIB


def test_a_container_sees_its_own_limit_at_the_root(tmp_path: Path) -> None:
    """And the host's path, or one above its root."""
    made(tmp_path, memory__max=3 * GIB)
    for path in ("/", "/../..", "/docker/0123"):
        assert min(limits(tmp_path, f"0::{path}")) == 3 * GIB


def test_what_may_be_swapped_comes_on_top(tmp_path: Path) -> None:
    made(tmp_path, memory__max=3 * GIB, memory__swap__max="max")
    assert limits(tmp_path, "0::/", swap=GIB) == [4 * GIB]
    made(tmp_path, memory__swap__max=0)
    assert limits(tmp_path, "0::/", swap=GIB) == [3 * GIB]


def test_groups_of_version_1(tmp_path: Path) -> None:
    made(tmp_path / "memory", memory__limit_in_bytes=2**63 - 4096)
    made(tmp_path / "memory" / "job", memory__limit_in_bytes=2 * GIB)
    assert min(limits(tmp_path, "4:memory:/job")) == 2 * GIB
    assert limits(tmp_path, "1:cpu,cpuacct:/job") == []


def test_without_control_groups_nothing_is_limited(tmp_path: Path) -> None:
    assert group_limits(tmp_path / "none", tmp_path, 0) == []
    assert min(limits(tmp_path, "0::/")) == UNLIMITED
