"""Jobs for the planner's tests: a small model whose numbers can be counted by hand."""

from typing import Any

from dpo.planner.architecture import Architecture, Linears
from dpo.planner.devices import GPUS
from dpo.planner.job import Job, Lengths


def small_model(**changes: Any) -> Architecture:
    """2 layers of width 8: 4 heads over 2 key/value heads of 2, feed-forward 16, 100 words, an untied head.

    A layer: q and o 64 each, k and v 32 each, three matrices of 128, two norms of 8: 592. All: 2 * 592 + 2 * 800 + 8.
    """
    names = {"q_proj": (8, 8), "k_proj": (8, 4), "v_proj": (8, 4), "o_proj": (8, 8)}
    names |= {"gate_proj": (8, 16), "up_proj": (8, 16), "down_proj": (16, 8)}
    values: dict[str, Any] = {
        "name": "small",
        "parameters": 2792,
        "layer_parameters": 592,
        "small_parameters": 0,
        "large_parameters": 0,
        "largest": 800,
        "vocabulary": 100,
        "tied": False,
        "layers": 2,
        "hidden": 8,
        "heads": 4,
        "kv_heads": 2,
        "head_size": 2,
        "intermediate": 16,
        "gated": True,
        "fused_norm": False,
        "spelt_activation": False,
        "packed": True,
        "linears": {n: Linears(count=2, inputs=2 * i, outputs=2 * o) for n, (i, o) in names.items()},
    }
    return Architecture(**values | changes)


def seven_b() -> Architecture:
    """Qwen2.5-7B."""
    layers, d, f, k, v = 28, 3584, 18944, 512, 152064
    layer = 2 * d * d + 2 * d * k + 3 * d * f + 2 * d + d + 2 * k
    widths = {"q_proj": (d, d), "k_proj": (d, k), "v_proj": (d, k), "o_proj": (d, d)}
    widths |= {"gate_proj": (d, f), "up_proj": (d, f), "down_proj": (f, d)}
    return small_model(
        name="7b",
        parameters=layers * layer + 2 * v * d + d,
        layer_parameters=layer,
        small_parameters=layers * (3 * d + 2 * k) + d,
        large_parameters=layers * (2 * d * d + 3 * d * f) + 2 * v * d,
        largest=v * d,
        vocabulary=v,
        layers=layers,
        hidden=d,
        heads=28,
        kv_heads=4,
        head_size=128,
        intermediate=f,
        linears={n: Linears(count=layers, inputs=layers * i, outputs=layers * o) for n, (i, o) in widths.items()},
    )


def job(model: Architecture | None = None, **changes: Any) -> Job:
    """Full fine-tuning in bf16 on 8 GPUs of one node: 128 pairs of 220 + 2 x 310 tokens to a step."""
    model = model or small_model()
    workers = changes.get("workers", 8)
    bucket = 1000 if model.hidden == 8 else 2**26
    values: dict[str, Any] = {
        "model": model,
        "device": GPUS["h100-80gb"],
        "on_cpu": False,
        "workers": workers,
        "per_node": min(8, workers),
        "network_gbps": 50.0,
        "efficiency": None,
        "lengths": Lengths(pairs=58_000, held_out=3_000, prompt=220, answer=310, longest=2000, source="stated"),
        "precision": "bf16",
        "layout": "packed",
        "checkpointing": "none",
        "activation_offload": False,
        "row_tokens": 8192,
        "row_pairs": None,
        "kernels": False,
        "sequence": 1,
        "trained": model.parameters,
        "adapted": False,
        "eight_bit": False,
        "stage": 3,
        "offload_optimizer": None,
        "offload_weights": None,
        "sizes": {"reduce_bucket_size": bucket, "stage3_prefetch_bucket_size": bucket},
        "reference": "cached",
        "batch_tokens": None,
        "self_check": True,
        "saves_copy": True,
        "keeps": 3,
        "global_batch": 128,
        "looks_first": False,
        "mismatched": False,
        "steps": 454,
        "evaluations": 6,
    }
    return Job(**values | changes)
