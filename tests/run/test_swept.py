"""A sweep for real: a launch per run, the reference computed by the first alone, and the comparison of both."""

import subprocess
import sys
from pathlib import Path

import pytest

from launch import LIMIT_SECONDS, SMALL, environment

pytestmark = [pytest.mark.run, pytest.mark.slow]


def test_two_runs_share_one_reference_pass(tmp_path: Path) -> None:
    settings = (
        "loss=sigmoid,ipo",
        "optim.max_steps=3",
        "data=demo",
        *(s for s in SMALL if not s.startswith("output_dir")),
    )
    done = subprocess.run(
        [sys.executable, "-m", "dpo", "sweep", *settings, f"output_dir={tmp_path}"],
        env=environment(NPROC="1"),
        capture_output=True,
        text=True,
        timeout=2 * LIMIT_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    found = [line.split("reference: ")[1].split() for line in done.stderr.splitlines() if "responses found" in line]
    computed, kept = (" ".join(words[:3]) for words in found)
    assert computed.startswith("0 of ")
    assert kept == f"{computed.split()[2]} of {computed.split()[2]}"
    table = done.stdout[done.stdout.index("Held-out numbers after the last step:") :].splitlines()
    assert [line.split()[:2] for line in table[2:4]] == [["sweep-sigmoid", "sigmoid"], ["sweep-ipo", "ipo"]]
    assert (tmp_path / "sweep.png").exists()
