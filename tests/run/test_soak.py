"""Fifty kills in a row. tests/run/soak.py does it with other seeds and numbers of workers."""

from pathlib import Path

import pytest
from soak import soak

pytestmark = [pytest.mark.run, pytest.mark.slow]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("workers", [1, 2])
def test_fifty_kills_change_nothing(workers: int, tmp_path: Path) -> None:
    """Of one worker, of the launcher, of everything; while starting, training and writing checkpoints."""
    toll = soak(workers, kills=50, seed=workers, cwd=tmp_path)
    assert toll.kills == 50 and toll.identical
    assert len(toll.moments) == 3 and min(toll.moments.values()) >= 8
    assert max(toll.lost_steps) <= 5, "more than the steps between two checkpoints, and those under way"
