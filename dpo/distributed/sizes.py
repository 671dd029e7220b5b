"""The sizes that conf/zero leaves as `auto`, from the width of the model: how much ZeRO sends, fetches and keeps at a
time. Counted in elements of the model's own type."""

from typing import Any

AUTO = "auto"
LAYER = 12  # weights of a transformer layer in units of hidden_size**2: 4 of the attention, 8 of the MLP
# 16 MiB in float32. Below it a collective's time is latency, and smaller buckets would only be more of them.
SMALLEST_BUCKET = 2**22
# 256 MiB in float32, where bandwidth has long been reached. DeepSpeed's own 5e8 hold 2 GB of every GPU.
LARGEST_BUCKET = 2**26
# 1 MiB in bf16: gathering less takes as long as gathering nothing (20 us, in which a link moves 1 MB). At 5e5 key and
# value projections and LoRA matrices stay whole too, one gather less each in forward and in backward.
KEPT_WHOLE = 2**19
KEPT_WHOLE_IN_ALL = 2**24  # 32 MiB in bf16


def fill(zero_optimization: dict[str, Any], hidden_size: int | None) -> dict[str, Any]:
    """The settings with every `auto` replaced; without a known width they are left to DeepSpeed's own defaults."""
    sizes = _sizes(hidden_size) if hidden_size else {}
    filled = {key: sizes.get(key, value) if value == AUTO else value for key, value in zero_optimization.items()}
    return {key: value for key, value in filled.items() if value != AUTO}


def unknown(zero_optimization: dict[str, Any]) -> list[str]:
    """Settings of the value `auto` that nothing here fills in."""
    return [key for key, value in zero_optimization.items() if value == AUTO and key not in _sizes(1)]


def describe(zero_optimization: dict[str, Any], filled: dict[str, Any]) -> str:
    """One line on what `fill` has put in; empty when nothing was left to it."""
    changed = [f"{key}={filled[key]}" for key, value in zero_optimization.items() if value == AUTO and key in filled]
    return ", ".join(changed)


def _sizes(hidden_size: int) -> dict[str, int]:
    """One layer is reduced at a time, while backward computes the one before it, and one is fetched ahead."""
    layer = LAYER * hidden_size**2
    bucket = min(max(layer, SMALLEST_BUCKET), LARGEST_BUCKET)
    return {
        "reduce_bucket_size": bucket,
        "allgather_bucket_size": bucket,
        "stage3_prefetch_bucket_size": bucket,
        "stage3_param_persistence_threshold": KEPT_WHOLE,
        "stage3_model_persistence_threshold": max(layer, KEPT_WHOLE_IN_ALL),
    }
