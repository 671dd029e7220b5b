"""The reference computed once: found again by other runs and other numbers of workers, and kept through a kill."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from dpo.config.schema import ModelConfig
from dpo.model.source import policy_source
from dpo.model.tiny import build_tiny_model
from dpo.reference.listing import list_kept, verify_kept
from dpo.reference.store import parts_of, read_part
from launch import LIMIT_SECONDS, SMALL, WORKERS, Ended, command, dpo, finish, start, train, worker

pytestmark = pytest.mark.run

PASS = ("output_dir=.", "data.demo=100", "reference.batch_tokens=400")


def found(output: str) -> list[tuple[int, int]]:
    """(found, all) of every look-up that the log tells of."""
    lines = re.findall(r"reference: ([\d,]+) of ([\d,]+) responses found", output)
    return [(int(some.replace(",", "")), int(total.replace(",", ""))) for some, total in lines]


def kept(cwd: Path) -> Path:
    (folder,) = (path for path in (cwd / "reference_cache").iterdir() if path.is_dir())
    return folder


def stored_keys(cwd: Path) -> list[bytes]:
    return [key for part in parts_of(kept(cwd)) for key in read_part(part).keys.tolist()]


def test_hits_and_misses_under_zero3_on_two_workers_and_on_one(tmp_path: Path) -> None:
    """Under ZeRO-3 a live module's weights are empty shards: a digest of those would be the same for every model."""
    source = policy_source(ModelConfig(build="tiny"), 0)
    build_tiny_model(0, source.config().vocab_size).save_pretrained(tmp_path / "model")
    source.tokenizer().save_pretrained(tmp_path / "model")
    code, output = worker(2, "reference_again.py", "model", "zero=zero3", cwd=tmp_path)
    assert code == 0, output
    (_, total), *_ = found(output)
    assert found(output) == [(0, total), (total, total), (0, total)]
    left = [json.loads(line) for line in output.splitlines() if line.startswith('{"rank"')]
    assert [row["left"] for row in left] == [0, 0], "the reference model stays in memory"
    settings = ("model.path=model", "data.demo=30", "output_dir=.", "zero=off", "optim.global_batch_size=5")
    code, output = dpo(1, "reference", *settings, cwd=tmp_path)
    assert code == 0 and found(output) == [(total, total)], output
    assert list_kept(tmp_path / "reference_cache").count(f"  {total:,}  ") == 2


@pytest.mark.parametrize("n", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_after_a_kill_only_the_rest_is_computed(n: int, tmp_path: Path) -> None:
    settings = ("reference", *PASS, f"zero={'zero3' if n > 1 else 'off'}")
    process = start(command(n, WORKERS / "slow_reference.py", *settings), tmp_path)
    try:
        wait_for_parts(process, tmp_path, 2 * n)
    finally:
        kill_workers(process, n)
        finish(process)
    before = stored_keys(tmp_path)
    code, output = dpo(n, *settings, cwd=tmp_path)
    assert code == 0, output
    ((hits, total),) = found(output)
    after = stored_keys(tmp_path)
    assert hits == len(before) and 0 < hits < total
    assert len(after) == len(set(after)) == total, "a value was computed twice"
    assert verify_kept(tmp_path / "reference_cache", "all")[1]


def kill_workers(process: subprocess.Popen[str], n: int) -> None:
    """With SIGKILL. Torch's launcher starts each worker in a session of its own and ends when they are gone."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for pid in [int(child) for child in children] if n > 1 else [process.pid]:
        os.kill(pid, signal.SIGKILL)


def wait_for_parts(process: subprocess.Popen[str], cwd: Path, count: int) -> None:
    end = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < end and process.poll() is None:
        if len(list(cwd.glob("reference_cache/*/part-*"))) >= count:
            return
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 2])
def test_a_request_to_stop_keeps_what_is_done(n: int, tmp_path: Path) -> None:
    """As in training: exit code 0, status.json says stopped, and the same command goes on."""
    run = (*SMALL, "reference.batch_tokens=400", "optim.max_steps=2", "name=run")
    process = start(command(n, WORKERS / "slow_reference.py", "train", *run), tmp_path)
    try:
        wait_for_parts(process, tmp_path, 2)
        (tmp_path / "run" / "STOP").touch()
    finally:
        code, output = finish(process)
    assert code == 0, output
    stopped = Ended(code=code, output=output, folder=tmp_path / "run")
    assert stopped.status["state"] == "stopped" and "STOP" in stopped.status["why"]
    assert stopped.rows == [] and stopped.checkpoints == []
    before = len(stored_keys(tmp_path))
    ended = train(n, *run, cwd=tmp_path)
    assert ended.status["state"] == "done" and len(ended.train) == 2
    assert found(ended.output)[0][0] == before > 0


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 2])
def test_a_pass_alone_leaves_on_ctrl_c(n: int, tmp_path: Path) -> None:
    process = start(command(n, WORKERS / "slow_reference.py", "reference", *PASS), tmp_path)
    try:
        wait_for_parts(process, tmp_path, 2)
        process.send_signal(signal.SIGINT)
    finally:
        code, output = finish(process)
    assert "after: received SIGINT; the same command continues" in output
    if n == 1:  # torch's launcher has an exit code and a traceback of its own
        assert code == 0 and "Traceback" not in output, output
    before = len(stored_keys(tmp_path))
    code, output = dpo(n, "reference", *PASS, cwd=tmp_path)
    assert code == 0 and found(output)[0][0] == before > 0


@pytest.mark.slow
def test_a_damaged_entry_costs_its_computation_again(tmp_path: Path) -> None:
    """A disk has turned one bit over: the run says so, computes those values again and gives the same numbers."""
    arguments = (*SMALL, "zero=off", "optim.max_steps=3")
    right = train(1, *arguments, "name=right", cwd=tmp_path)
    first = parts_of(kept(tmp_path))[0]
    data = bytearray(first.read_bytes())
    data[-9] ^= 1
    first.write_bytes(data)
    again = train(1, *arguments, "name=again", cwd=tmp_path)
    assert first.name in again.output and "computed again" in again.output
    assert [row["loss"] for row in again.rows] == [row["loss"] for row in right.rows]


@pytest.mark.slow
def test_two_jobs_fill_one_cache_at_once(tmp_path: Path) -> None:
    both = [start(command(1, WORKERS / "slow_reference.py", "reference", *PASS), tmp_path) for _ in range(2)]
    for code, output in [finish(process) for process in both]:
        assert code == 0, output
    code, output = dpo(1, "reference", *PASS, cwd=tmp_path)
    ((hits, total),) = found(output)
    assert code == 0 and hits == total == len(set(stored_keys(tmp_path)))


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 2])
def test_cached_trains_like_sharded(n: int, one: Ended, tmp_path: Path) -> None:
    """Against another model, so that the reference matters from the first step on."""
    run = (*SMALL, f"reference.path={one.folder / 'final'}", "optim.max_steps=12", "checkpoint.every=0")
    expected = train(n, *run, "reference=sharded", "name=sharded", cwd=tmp_path)
    cached = train(n, *run, "reference=cached", "name=cached", cwd=tmp_path)
    assert abs(expected.train[0]["loss"] - 0.6931) > 0.01
    for name in ("loss", "rewards/margins"):
        assert [row[name] for row in cached.rows] == pytest.approx([row[name] for row in expected.rows], abs=1e-5)
