"""A whole run whose Weights & Biases server fails on the way."""

from pathlib import Path

import pytest
from wandb_server import FakeWandb, fake_wandb

from launch import ROOT, TWENTY, Ended, command, finish, start, wait_for_step

pytestmark = pytest.mark.run

KEY = "k" * 40  # wandb refuses shorter ones


@pytest.mark.parametrize(
    "fault", ["rejects", pytest.param("slow", marks=pytest.mark.slow), pytest.param("gone", marks=pytest.mark.slow)]
)
def test_a_server_that_fails_in_mid_run_changes_nothing(fault: str, one: Ended, tmp_path: Path) -> None:
    """From step 5 on it refuses the key, answers no more or is not there: all steps, the same numbers, a good end."""
    settings = (*TWENTY, "zero=off", "name=tracked", "track.wandb=online")
    with fake_wandb() as server:
        online = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY, "WANDB_MODE": "online", "NO_PROXY": "127.0.0.1"}
        process = start(command(1, ROOT / "train.py", *settings), tmp_path, **online)
        try:
            wait_for_step(process, tmp_path / "tracked" / "metrics.jsonl", 5)
            assert process.poll() is None and FakeWandb.posts, "the run was to be online and under way"
            server.fail(fault)
        finally:
            code, output = finish(process)
    ended = Ended(code=code, output=output, folder=tmp_path / "tracked")
    assert code == 0 and "Traceback" not in output and KEY not in output
    assert ended.status["state"] == "done"
    assert [row["loss"] for row in ended.train] == [row["loss"] for row in one.train]
