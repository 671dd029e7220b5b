"""benchmarks/compare.py from end to end, against the TRL that is installed."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from launch import ROOT, environment

pytestmark = [
    pytest.mark.run,
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("trl") is None, reason='TRL is not installed (pip install -e ".[bench]")'),
]


def test_tiny_comparison(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    command = [sys.executable, str(ROOT / "benchmarks/compare.py"), "preset=tiny", "threads=1", f"out={out}"]
    ended = subprocess.run(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=500
    )
    assert ended.returncode == 0, ended.stdout
    results = json.loads(out.read_text())
    assert {"ratio", "memory_ratio", "date", "versions"} <= results.keys()
    assert results["checks"]["tiny"]["ours"] == pytest.approx(results["checks"]["tiny"]["trl"], abs=1e-4)
    (case,) = results["cases"]
    assert case["ratio"] > 0 and case["memory_ratio"] > 0
    assert case["ours"]["computed_tokens"] < case["trl"]["computed_tokens"]
    assert [cause["cause"] for cause in case["causes"]][-1] == "residual"
    product = 1.0
    for cause in case["causes"]:
        product *= cause["factor"] if cause["counts"] else 1.0
    assert product == pytest.approx(case["ratio"])
    assert out.with_suffix(".png").stat().st_size > 10_000
