"""What two finished runs have written down is what the table of metrics says."""

import pytest

from dpo.metric_table import ADDRESS, metric
from launch import Ended

pytestmark = pytest.mark.run


def test_every_key_of_a_run_is_explained_for_its_records(one: Ended, two: Ended) -> None:
    for ended in (one, two):
        for row in ended.rows:
            found = {key: metric(key) for key in row if key not in ADDRESS}
            assert [key for key, known in found.items() if known is None] == []
            side = "train" if row["split"] == "train" else "held_out"
            assert [key for key, known in found.items() if known and not getattr(known, side)] == []


def test_the_margins_of_a_record_are_all_counted(one: Ended) -> None:
    """16 pairs a step, the last of the epoch 12; before the first step all margins are zero."""
    counts = [sum(row["rewards/margins_histogram"].values()) for row in one.train]
    assert counts == [row["pairs"] - before for row, before in zip(one.train, [0, *counted(one)], strict=False)]
    first = one.held_out[0]
    assert list(first["rewards/margins_histogram"]) == ["0"] and abs(first["rewards/margins_p50"]) < 0.001
    for row in one.train[-5:]:
        assert row["rewards/margins_p10"] <= row["rewards/margins_p50"] <= row["rewards/margins_p90"]


def counted(ended: Ended) -> list[int]:
    return [row["pairs"] for row in ended.train]
