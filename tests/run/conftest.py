"""Two finished runs that many tests look at: each costs as much as all unit tests together."""

import pytest

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
