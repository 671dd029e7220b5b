"""Counts in fixed bins against numpy, and quantiles against those of the values themselves."""

import math

import numpy as np
import pytest
import torch

from dpo.histogram import BINS, EDGES, SIDE, by_bin, count, quantiles, with_edges

pytestmark = pytest.mark.unit


def values(scale: float, n: int = 2000) -> torch.Tensor:
    return scale * torch.randn(n, generator=torch.Generator().manual_seed(int(1000 * scale)))


@pytest.mark.parametrize("scale", [0.003, 0.3, 30.0])
def test_counts_are_numpys(scale: float) -> None:
    found = count(values(scale))
    expected, _ = np.histogram(values(scale).double().numpy(), np.array(EDGES))
    assert len(found) == BINS == len(EDGES) - 1
    assert found.tolist() == expected.tolist()


def test_ends_zero_and_nan() -> None:
    found = count(torch.tensor([0.0, -0.0, 1e-30, 1e9, -math.inf, math.nan, -1e-5]))
    assert found.sum() == 6 and found[0] == 1 and found[-1] == 1 and found[BINS // 2] == 4
    assert by_bin(found.tolist()) == {str(-SIDE): 1, "0": 4, str(SIDE): 1}


def test_sums_over_workers_and_micro_batches_are_the_whole() -> None:
    parts = [count(part) for part in values(2.0).split(137)]
    assert torch.equal(sum(parts[1:], parts[0]), count(values(2.0)))


@pytest.mark.parametrize("scale", [0.01, 1.0, 20.0])
def test_quantiles_are_those_of_the_values(scale: float) -> None:
    shares = [0.1, 0.25, 0.5, 0.9]
    found = quantiles(count(values(scale)).tolist(), shares)
    expected = np.quantile(values(scale).double().numpy(), shares)
    for value, true in zip(found, expected, strict=True):
        assert value == pytest.approx(true, rel=0.1, abs=2 * 2**-10)


def test_one_value_and_none() -> None:
    low, high = quantiles(count(torch.tensor([3.0])).tolist(), [0.0, 1.0])
    assert low <= 3.0 <= high <= 1.2 * low
    assert all(math.isnan(value) for value in quantiles([0.0] * BINS, [0.5]))
    assert with_edges(by_bin([0.0] * BINS)) == ([], [])


def test_edges_come_back_to_filled_bins_and_those_between() -> None:
    edges, counts = with_edges(by_bin(count(torch.tensor([3.0, 3.1, 4.5, 3.0])).tolist()))
    assert counts == [3, 0, 1]
    assert edges == pytest.approx([2**1.5, 2**1.75, 4.0, 2**2.25])
