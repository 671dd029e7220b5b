"""The model side of a run: policy and engine, built from their settings."""

import logging
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from dpo.config.schema import LoraAdapterConfig, RunConfig
from dpo.distributed.engine import Engine
from dpo.distributed.placement import Placement, shape
from dpo.distributed.plain import PlainEngine
from dpo.distributed.world import World
from dpo.errors import ModelError
from dpo.model import remote_code
from dpo.model.activations import checkpoint_layers
from dpo.model.adapter import add_lora
from dpo.model.compiled import compile_layers
from dpo.model.kernels import use_kernels
from dpo.model.load import load_causal_lm, without_dropout
from dpo.model.scorer import Scorer, choose_layout
from dpo.model.source import ModelSource
from dpo.model.ulysses import require_shareable

log = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True)
class Policy:
    """The model that learns."""

    scorer: Scorer
    adapted: Any | None  # peft's model around the same weights
    layout: str


def build_policy(config: RunConfig, source: ModelSource, world: World) -> Policy:
    causal_lm = load(source, "policy", world)
    use_kernels(causal_lm, config.model.kernels)
    layout = layout_of(causal_lm, config.layout, world)
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


def build_engine(config: RunConfig, policy: Policy, world: World) -> Engine:
    if world.zero:
        from dpo.distributed.zero import ZeroEngine

        return ZeroEngine(policy.scorer, config.optim, world)
    return PlainEngine(policy.scorer, config.optim, world)


def layout_of(causal_lm: PreTrainedModel, wanted: str, world: World) -> str:
    """Raises ModelError when workers share rows that this model cannot read."""
    layout, why = choose_layout(causal_lm, wanted)
    if why:
        if world.sequence is not None:
            raise ModelError(
                f"zero.sequence_parallel={world.sequence_size} needs layout=packed, but {why}: set it to 1"
            )
        log.info("layout=padded: %s", why)
    return layout


def load(source: ModelSource, role: str, world: World) -> PreTrainedModel:
    """Its weights where those of the `role` belong, policy or reference."""
    if world.sequence is not None:
        require_shareable(source.config(), world.sequence_size)  # before minutes of loading
    with remote_code.allowed(source):
        return load_causal_lm(source, Placement(world, role))


def _millions(count: int) -> str:
    return f"{count / 1e9:.2f}B" if count >= 1e9 else f"{count / 1e6:.2f}M"
