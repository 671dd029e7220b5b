"""The model side of a run: policy, reference and engine, built from their settings."""

import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from dpo.config.schema import LoraAdapterConfig, RunConfig
from dpo.distributed.engine import Engine
from dpo.distributed.placement import Placement, shape
from dpo.distributed.plain import PlainEngine
from dpo.distributed.world import World
from dpo.errors import ModelError
from dpo.model.activations import checkpoint_layers
from dpo.model.adapter import add_lora
from dpo.model.compiled import compile_layers
from dpo.model.kernels import use_kernels
from dpo.model.load import load_causal_lm, without_dropout
from dpo.model.reference import AdapterOffReference, FrozenReference, NoReference
from dpo.model.scorer import Scorer, choose_layout
from dpo.model.source import ModelSource, reference_source
from dpo.model.ulysses import require_shareable
from dpo.step import Reference

log = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True)
class Policy:
    """The model that learns."""

    scorer: Scorer
    adapted: Any | None  # peft's model around the same weights
    layout: str


def build_policy(config: RunConfig, source: ModelSource, world: World) -> Policy:
    causal_lm = _load(source, "policy", world)
    use_kernels(causal_lm, config.model.kernels)
    layout, why = choose_layout(causal_lm, config.layout)
    if why:
        if world.sequence is not None:
            raise ModelError(
                f"zero.sequence_parallel={world.sequence_size} needs layout=packed, but {why}: set it to 1"
            )
        log.info("layout=padded: %s", why)
    if not config.model.dropout:
        without_dropout(causal_lm)
    if config.model.gradient_checkpointing != "none":
        checkpoint_layers(causal_lm, config.model.gradient_checkpointing)
    adapted = None
    if isinstance(config.adapter, LoraAdapterConfig):
        torch.manual_seed(config.seed)  # the same first adapter on every worker
        adapted = add_lora(causal_lm, config.adapter)
    if config.model.compile:
        compile_layers(causal_lm)
    scorer = Scorer(causal_lm, layout, world.sequence, config.model.activation_offload).train()
    trained = sum(shape(p).numel() for p in scorer.parameters() if p.requires_grad)
    total = sum(shape(p).numel() for p in scorer.parameters())
    log.info(
        "model: %s, %s parameters, %s of them trained, layout %s",
        source.name,
        _millions(total),
        _millions(trained),
        layout,
    )
    return Policy(scorer=scorer, adapted=adapted, layout=layout)


def build_reference(config: RunConfig, policy: Policy, source: ModelSource, world: World) -> Reference:
    if config.reference.kind == "none":
        return NoReference()
    if config.reference.kind == "adapter_off":
        return AdapterOffReference(policy.scorer, policy.adapted)
    own = reference_source(config.reference, source)
    causal_lm = _load(own, "reference", world)
    use_kernels(causal_lm, config.model.kernels)  # as the policy's, or their first log-probabilities would differ
    if config.model.compile and not world.zero:  # a frozen model under DeepSpeed is always sharded
        compile_layers(causal_lm)
    frozen: nn.Module = Scorer(causal_lm, policy.layout, world.sequence)
    frozen.requires_grad_(False)
    if world.zero:
        from dpo.distributed.zero import shard_frozen

        frozen = shard_frozen(frozen, world)
    return FrozenReference(frozen)


def build_engine(config: RunConfig, policy: Policy, world: World) -> Engine:
    if world.zero:
        from dpo.distributed.zero import ZeroEngine

        return ZeroEngine(policy.scorer, config.optim, world)
    return PlainEngine(policy.scorer, config.optim, world)


def _load(source: ModelSource, role: str, world: World) -> PreTrainedModel:
    if world.sequence is not None:
        require_shareable(source.config(), world.sequence_size)  # before minutes of loading
    return load_causal_lm(source, Placement(world, role))


def _millions(count: int) -> str:
    return f"{count / 1e9:.2f}B" if count >= 1e9 else f"{count / 1e6:.2f}M"
