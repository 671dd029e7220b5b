"""Weights onto the workers: whole, or tensor by tensor when they are sharded."""

import json
import logging
from functools import partial
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from dpo.distributed.placement import Placement, overwrite, shape
from dpo.errors import ModelError
from dpo.memory import freed_memory_returned
from dpo.model import remote_code
from dpo.model.source import ModelSource
from dpo.model.tiny import build_tiny_model

log = logging.getLogger(__name__)


def load_causal_lm(source: ModelSource, placement: Placement) -> PreTrainedModel:
    """The model with its weights in `placement`, in eval mode.

    Raises:
        ModelError: no such model, no causal language model, or weights that do not fit its config.
    """
    if source.build:
        model = build_tiny_model(source.seed, source.config().vocab_size)
        placement.adopt(model)
        return model.eval()
    config = source.config()
    if placement.sharded and (files := _weight_files(source)):
        with freed_memory_returned():
            model = _load_sharded(source, config, placement, files)
        if model is not None:
            return model.eval()
        log.info("weights of %s need transformers' own conversion: rank 0 reads them whole", source.name)
    return _load_whole(source, config, placement).eval()


def without_weights(source: ModelSource) -> PreTrainedModel:
    """The model's structure alone: every tensor has a shape and no memory."""
    with torch.device("meta"), remote_code.allowed(source):
        return AutoModelForCausalLM.from_config(source.config(), trust_remote_code=source.trust_remote_code)


def _load_whole(source: ModelSource, config: PretrainedConfig, placement: Placement) -> PreTrainedModel:
    """By transformers: from safetensors, else from pytorch_model.bin by a reader that makes nothing but tensors."""
    try:
        model = AutoModelForCausalLM.from_pretrained(
            source.path, config=config, dtype=placement.dtype, low_cpu_mem_usage=True, **source.options
        )
    except UnpicklingError as error:
        raise ModelError(
            f"{source.setting}={source.path}: its weights are pickled (pytorch_model.bin) and hold more than tensors, "
            "which could run code: not loaded. Save the model as safetensors where you trust it"
        ) from error
    except (OSError, ValueError) as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise ModelError(f"{source.setting}={source.path}: the weights cannot be loaded: {first}") from error
    placement.adopt(model)
    return model


def _load_sharded(
    source: ModelSource, config: PretrainedConfig, placement: Placement, files: dict[str, Path]
) -> PreTrainedModel | None:
    """Build the model sharded and fill one tensor after the other; None when names do not match one to one."""
    # Weights come from the file: initialising the shards would only cost time.
    with placement.building(), no_init_weights():
        model = AutoModelForCausalLM.from_config(
            config, dtype=placement.dtype, trust_remote_code=source.trust_remote_code
        )
    wanted = _unique_tensors(model)
    names = _match(list(wanted), list(files), model.base_model_prefix)
    if names is None:
        return None
    for name, tensor in wanted.items():
        key = names[name]
        _require_shape(source, key, files[key], shape(tensor))
        overwrite(tensor, partial(_read, files[key], key))
    return model


def _unique_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and saved buffers by name; tied ones once."""
    tensors: dict[str, Tensor] = dict(model.named_parameters())
    saved = model.state_dict(keep_vars=True).keys()
    return tensors | {name: buffer for name, buffer in model.named_buffers() if name in saved}


def _match(wanted: list[str], stored: list[str], prefix: str) -> dict[str, str] | None:
    """Model name -> name in the files, which may lack the base model's prefix or carry one more; None if one lacks."""
    known = set(stored)
    names = {}
    for name in wanted:
        choices = (name, name.removeprefix(f"{prefix}."), f"{prefix}.{name}")
        found = next((choice for choice in choices if choice in known), None)
        if found is None:
            return None
        names[name] = found
    return names


def _weight_files(source: ModelSource) -> dict[str, Path]:
    """Tensor name -> safetensors file; empty when the model has none."""
    if index := source.file("model.safetensors.index.json"):
        places = json.loads(index.read_text())["weight_map"]
        paths = {file: source.file(file) for file in set(places.values())}
        if missing := sorted(file for file, path in paths.items() if path is None):
            raise ModelError(f"{source.setting}={source.path}: weight files are missing: {', '.join(missing[:3])}.")
        return {name: path for name, file in places.items() if (path := paths[file])}
    if single := source.file("model.safetensors"):
        with safe_open(single, framework="pt") as weights:
            return dict.fromkeys(weights.keys(), single)
    return {}


def _read(file: Path, key: str) -> Tensor:
    # Opened anew for every tensor: closing it gives the mapped pages back, so that the whole file never stays resident.
    with safe_open(file, framework="pt") as weights:
        return weights.get_tensor(key)


def _require_shape(source: ModelSource, key: str, file: Path, expected: torch.Size) -> None:
    with safe_open(file, framework="pt") as weights:
        found = list(weights.get_slice(key).get_shape())
    if found != list(expected):
        raise ModelError(
            f"{source.setting}={source.path}: {key} in {file.name} has shape {found}, its config.json expects "
            f"{list(expected)}."
        )


def without_dropout(model: nn.Module) -> None:
    """Switch off the dropout that the base model brings; its config stays as it was."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0  # type: ignore[assignment]  # torch declares tensors and modules only
