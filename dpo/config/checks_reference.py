"""Cross-checks of the reference."""

from dpo.config.schema import LoraAdapterConfig, MovingReferenceConfig, RunConfig

# Of DeepSpeed: second copies of shards, shards of some workers only, shards in 8 bits or fewer.
OTHER_SHARDS = (
    "zero_hpz_partition_size",
    "mics_shard_size",
    "zero_quantized_weights",
    "zero_quantized_nontrainable_weights",
)


def reference_problems(config: RunConfig, needs: bool) -> list[str]:
    """What of reference= has no effect or no sense beside the other settings. `needs`: whether the loss has one."""
    kind = config.reference.kind
    adapted = isinstance(config.adapter, LoraAdapterConfig)
    problems = []
    if kind == "none" and needs:
        problems.append(f"reference=none, but loss={config.loss.name} compares with a reference: reference=auto")
    if kind not in ("none", "auto") and not needs:
        problems.append(f"reference={kind}, but loss={config.loss.name} compares with no reference: reference=auto")
    if config.reference.path and not needs:
        problems.append(f"reference.path is set, but loss={config.loss.name} compares with no reference: remove it")
    if kind in ("sharded", "adapter_off", "moving", "none"):
        kept = {"cache_dir": config.reference.cache_dir, "batch_tokens": config.reference.batch_tokens}
        problems += [
            f"reference.{name} has no effect with reference={kind}, which keeps nothing: remove it, or reference=cached"
            for name, value in kept.items()
            if value is not None
        ]
    if kind == "adapter_off" and not adapted:
        problems.append("reference=adapter_off needs an adapter to switch off: adapter=lora, or reference=cached")
    if kind == "adapter_off" and config.reference.path:
        problems.append("reference.path has no effect with reference=adapter_off: remove it, or reference=cached")
    return problems + _drift(config) + _moving(config)


def _drift(config: RunConfig) -> list[str]:
    """kl/samples, which needs new text to be scored by the reference."""
    n, problems = config.eval.kl_prompts, []
    if n and config.reference.kind in ("auto", "cached", "none"):
        problems.append(
            f"eval.kl_prompts={n} scores new text, but reference={config.reference.kind} has no "
            "model to score it with: reference=sharded, or adapter_off with adapter=lora; or eval.kl_prompts=0"
        )
    if n and not (config.eval.fraction or config.data.eval_path or config.data.eval_split):
        problems.append(
            f"eval.kl_prompts={n} draws answers to held-out prompts, and there are none: set eval.fraction or "
            "data.eval_path, or eval.kl_prompts=0"
        )
    return problems


def _moving(config: RunConfig) -> list[str]:
    """What a reference that follows the policy shard by shard cannot follow."""
    own, settings = config.reference, config.zero.deepspeed.get("zero_optimization", {})
    if not isinstance(own, MovingReferenceConfig):
        return []
    problems = [
        f"zero.deepspeed.zero_optimization.{key} keeps weights in a form that reference=moving cannot mix: remove it"
        for key in OTHER_SHARDS
        if key in settings
    ]
    if (settings.get("offload_param") or {}).get("device") == "nvme":
        problems.append(
            f"reference=moving mixes weights in memory, but zero={config.zero.name} keeps them on an SSD: use "
            "zero=zero3_offload, or reference=cached"
        )
    if isinstance(config.adapter, LoraAdapterConfig) and own.sync_mix < 1:
        problems.append(
            f"reference.sync_mix={own.sync_mix} with adapter={config.adapter.kind}: A and B mixed one by one are not "
            "the mixture of their products, which has twice the rank: reference.sync_mix=1, or adapter=none"
        )
    if isinstance(config.adapter, LoraAdapterConfig) and own.path:
        problems.append(
            "reference.path has no effect with reference=moving and an adapter, whose base is the reference: remove it"
        )
    return problems
