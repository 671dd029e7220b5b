"""Pairs prepared by a pool of processes: found again by training, ended in order, and nothing half left behind."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from launch import LIMIT_SECONDS, Ended, dpo, finish, python, start, train

pytestmark = pytest.mark.run

ROWS = 20_000  # of which preparing takes seconds on two processes
PREPARE = ("prepare", "data.path=pairs.jsonl", "output_dir=.", "data.workers=2", "track.progress=false")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A file, beside which the commands are to be started."""
    rows = (
        {"prompt": f"What is {i}?", "chosen": f"It is {i}. " * 9, "rejected": "Who knows? " * 9} for i in range(ROWS)
    )
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def folders(cwd: Path) -> list[Path]:
    return [path for path in (cwd / "data_cache").glob("*") if path.is_dir()] if (cwd / "data_cache").exists() else []


def wait(process: subprocess.Popen[str], until: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < end and process.poll() is None and not until():
        time.sleep(0.02)


def pool_of(process: subprocess.Popen[str]) -> list[int]:
    """Process ids of the pool, once both have begun."""
    threads = Path(f"/proc/{process.pid}/task").glob("*/children")
    children = [child for thread in threads for child in thread.read_text().split()]
    found = [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
    return found if len(found) == 2 else []


def test_a_request_to_stop_ends_the_pool_and_leaves_nothing(pairs: Path) -> None:
    process = start(python(1, "-m", "dpo", *PREPARE), pairs.parent)
    wait(process, lambda: bool(pool_of(process)))
    pool = pool_of(process)
    process.send_signal(signal.SIGTERM)
    code, output = finish(process)
    assert code == 0 and "stopped: received SIGTERM" in output, output
    assert "Traceback" not in output and folders(pairs.parent) == []
    assert pool and not [pid for pid in pool if Path(f"/proc/{pid}").exists()]


def test_workers_of_one_machine_share_what_one_prepares(two: Ended) -> None:
    cache = two.folder.parent / "data_cache"
    assert sorted(path.suffix for path in cache.glob("*/*")) == sorted([".arrow", ".json", ".jsonl"] * 2)
    assert two.output.count("data: demo: ") == 1


@pytest.mark.slow
def test_training_finds_what_was_prepared(pairs: Path) -> None:
    code, output = dpo(1, *PREPARE, cwd=pairs.parent)
    assert code == 0 and f"{ROWS:,}" in output, output
    (folder,) = folders(pairs.parent)
    before = (folder / "manifest.json").stat().st_mtime_ns
    settings = ("data.path=pairs.jsonl", "output_dir=.", "optim.max_steps=1", "eval.fraction=0.001", "eval.samples=0")
    train(2, *settings, "track.wandb=off", "zero=off", "data.limit=null", "name=run", cwd=pairs.parent)
    assert folders(pairs.parent) == [folder] and (folder / "manifest.json").stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_second_job_waits_and_finds_what_the_first_prepares(pairs: Path) -> None:
    both = [start(python(1, "-m", "dpo", *PREPARE), pairs.parent) for _ in range(2)]
    ended = [finish(process) for process in both]
    assert [code for code, _ in ended] == [0, 0], ended
    assert sum("these pairs are being prepared by process" in output for _, output in ended) == 1
    assert len(folders(pairs.parent)) == 1


@pytest.mark.slow
def test_a_killed_job_leaves_no_process_and_the_next_prepares(pairs: Path) -> None:
    process = start(python(1, "-m", "dpo", *PREPARE), pairs.parent)
    wait(process, lambda: bool(pool_of(process)))
    pool = pool_of(process)
    process.kill()
    finish(process)
    end = time.monotonic() + 60
    while time.monotonic() < end and any(Path(f"/proc/{pid}").exists() for pid in pool):
        time.sleep(0.1)
    assert pool and not [pid for pid in pool if Path(f"/proc/{pid}").exists()]
    code, output = dpo(1, *PREPARE, cwd=pairs.parent)
    assert code == 0, output
    assert len(folders(pairs.parent)) == 1 and not list((pairs.parent / "data_cache").glob(".*.tmp"))


@pytest.mark.slow
def test_a_process_of_the_pool_that_is_killed_is_told(pairs: Path) -> None:
    process = start(python(1, "-m", "dpo", *PREPARE), pairs.parent)
    wait(process, lambda: bool(pool_of(process)))
    os.kill(pool_of(process)[0], signal.SIGKILL)
    code, output = finish(process)
    assert code == 1 and "data.workers" in output and "Traceback" not in output, output
    assert folders(pairs.parent) == []
