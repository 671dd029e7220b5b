"""The trained policy as a Hugging Face folder: weights gathered tensor by tensor, tokenizer, generation config."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dpo.disk import explain
from dpo.distributed.placement import whole
from dpo.distributed.world import World
from dpo.errors import CheckpointError
from dpo.model.adapter import LEARNING, lora_layers

CARD = "README.md"


@dataclass(kw_only=True, slots=True)
class Trained:
    """What is exported."""

    causal_lm: PreTrainedModel
    adapted: Any | None  # the same with its adapter, as peft sees it
    tokenizer: PreTrainedTokenizerBase
    card: str  # the model card, Markdown


def export(trained: Trained, folder: Path, world: World) -> None:
    """Write `folder`, whole or not at all; with an adapter the merged model, and the adapter alone in `adapter/`.
    A collective; only the main worker holds the gathered weights and writes.

    Raises:
        CheckpointError: the disk is full, read-only or gone.
    """
    temporary = folder.with_name(f".{folder.name}-writing")
    try:
        _write(trained, temporary, world)
        if world.is_main:
            shutil.rmtree(folder, ignore_errors=True)
            temporary.rename(folder)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"the trained model could not be written: {explain(error, folder.parent)}. The same command continues from "
            "the newest checkpoint and writes it then."
        ) from error
    world.barrier()


def _write(trained: Trained, temporary: Path, world: World) -> None:
    merged = _gather(trained.causal_lm, world, merge=True)
    if world.is_main:
        shutil.rmtree(temporary, ignore_errors=True)
        _set_generation(trained.causal_lm, trained.tokenizer)
        trained.causal_lm.save_pretrained(temporary, state_dict=merged)
        trained.tokenizer.save_pretrained(temporary)
        (temporary / CARD).write_text(trained.card, encoding="utf-8")
    if trained.adapted is not None:
        weights = _gather(trained.causal_lm, world, merge=False)
        if world.is_main:
            named = {f"base_model.model.{name}": tensor for name, tensor in weights.items()}
            own = get_peft_model_state_dict(trained.adapted, named)
            trained.adapted.save_pretrained(temporary / "adapter", state_dict=own, selected_adapters=[LEARNING])
            (temporary / "adapter" / CARD).write_text(trained.card, encoding="utf-8")  # peft's is an empty form


def _gather(causal_lm: PreTrainedModel, world: World, *, merge: bool) -> dict[str, Tensor]:
    """Whole tensors by name on the main worker, on the CPU. `merge`: base weights with the adapter added, under their
    original names; else only the adapter's own tensors."""
    layers = {f"{name}.base_layer.weight": layer for name, layer in lora_layers(causal_lm).items()} if merge else {}
    tensors: dict[str, Tensor] = {}
    for name, parameter in causal_lm.named_parameters(remove_duplicate=False):
        if ("lora_" in name) == merge:
            continue
        needed = [parameter, *_adapter_parameters(layers[name])] if name in layers else [parameter]
        with whole(needed):
            if world.is_main:
                tensor = _with_adapter(parameter, layers[name]) if name in layers else parameter
                tensors[name.replace(".base_layer.", ".")] = tensor.detach().cpu().clone()
    if merge:
        saved = causal_lm.state_dict(keep_vars=True).keys()
        tensors |= {name: b.detach().cpu() for name, b in causal_lm.named_buffers() if name in saved}
    return tensors


@torch.no_grad()
def _with_adapter(weight: Tensor, layer: Any) -> Tensor:
    """W + (alpha / rank) B A, summed in float32."""
    return (weight.float() + layer.get_delta_weight(LEARNING).float()).to(weight.dtype)


def _adapter_parameters(layer: Any) -> list[nn.Parameter]:
    return [p for name, p in layer.named_parameters() if "lora_" in name]


def _set_generation(causal_lm: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """The ids that end and pad an answer, where the model's own generation config leaves them open."""
    settings = causal_lm.generation_config
    if settings is None:
        return
    if settings.eos_token_id is None:
        settings.eos_token_id = tokenizer.eos_token_id
    if settings.pad_token_id is None:
        settings.pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
