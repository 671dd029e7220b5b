"""What several files of tests look at: two finished runs, each as expensive as all unit tests together, and a Slurm."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_cluster import Cluster, cluster

from launch import TWENTY, Ended, train


@pytest.fixture(scope="session")
def one(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """What all others are held to: one process, plain torch, every step in one forward pass."""
    return train(1, *TWENTY, "zero=off", "name=one", cwd=tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="session")
def two(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """The same on two ZeRO-3 workers, in micro-batches of 2 pairs."""
    settings = ("zero=zero3", "optim.micro_batch_pairs=2", "name=two")
    return train(2, *TWENTY, *settings, cwd=tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes, idle at first."""
    with cluster(tmp_path_factory.mktemp("slurm")) as found:
        yield found


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where its jobs are submitted, and their runs lie."""
    return tmp_path_factory.mktemp("desk")
