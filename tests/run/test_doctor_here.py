"""`python -m dpo doctor` on the machine that the tests run on: every check, with real processes."""

import json
from pathlib import Path

import pytest

from dpo.config.doctor import CHECKS
from launch import dpo

pytestmark = pytest.mark.run


def test_every_check_comes_to_an_end_here(tmp_path: Path) -> None:
    code, output = dpo(1, "doctor", "doctor.json=-", "doctor.free_gb=0.1", "track.wandb=off", cwd=tmp_path)
    report = json.loads(output)
    assert code == (0 if report["fit"] else 1)
    assert list(dict.fromkeys(found["check"] for found in report["findings"])) == list(CHECKS)
    broken = [found for found in report["findings"] if found["text"].startswith("cannot be checked")]
    assert broken == []
    (speed,) = (found["text"] for found in report["findings"] if found["check"] == "allreduce")
    assert "GB/s" in speed or "one GPU" in speed, speed
    assert list(tmp_path.iterdir()) == [], "nothing is left where a run would write"
