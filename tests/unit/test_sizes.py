"""ZeRO's sizes follow the width of the model, and a number of the user's stays."""

import pytest

from dpo.config.compose import compose_run
from dpo.distributed.sizes import AUTO, KEPT_WHOLE, LARGEST_BUCKET, SMALLEST_BUCKET, describe, fill

pytestmark = pytest.mark.unit

BUCKET = "reduce_bucket_size"


def settings(*overrides: str) -> dict[str, object]:
    return compose_run(["zero=zero3", *overrides], 2).config.zero.deepspeed["zero_optimization"]


@pytest.mark.parametrize(
    ("hidden_size", "bucket"),
    [(128, SMALLEST_BUCKET), (896, 12 * 896**2), (1536, 12 * 1536**2), (8192, LARGEST_BUCKET)],
)
def test_a_bucket_holds_a_layer_within_bounds(hidden_size: int, bucket: int) -> None:
    found = fill(settings(), hidden_size)
    assert AUTO not in found.values()
    assert found[BUCKET] == found["stage3_prefetch_bucket_size"] == bucket
    assert found["stage3_param_persistence_threshold"] == KEPT_WHOLE
    assert found["stage3_model_persistence_threshold"] >= 12 * hidden_size**2


def test_a_number_of_the_user_stays() -> None:
    own = settings("zero.deepspeed.zero_optimization.reduce_bucket_size=1000")
    filled = fill(own, 896)
    assert filled[BUCKET] == 1000
    assert BUCKET not in describe(own, filled)
    assert f"stage3_param_persistence_threshold={KEPT_WHOLE}" in describe(own, filled)


def test_without_a_known_width_deepspeed_decides() -> None:
    found = fill(settings(), None)
    assert AUTO not in found.values()
    assert BUCKET not in found
    assert found["stage"] == 3
