"""Composed and checked configurations, and what is wrong with those that are refused."""

import pytest

from dpo.config.checks import check
from dpo.config.compose import compose_run
from dpo.config.schema import RunConfig
from dpo.errors import ConfigError


def composed(*overrides: str, world_size: int = 1) -> RunConfig:
    config = compose_run(list(overrides), world_size).config
    check(config)
    return config


def problems(*overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        composed(*overrides)
    assert all(problem in str(caught.value) for problem in caught.value.problems)
    return caught.value.problems
