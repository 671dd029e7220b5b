"""torch.compile per decoder layer: one small graph for all of them, whatever the lengths of a row."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from dpo.errors import ModelError


def compile_layers(causal_lm: PreTrainedModel, backend: str = "inductor") -> None:
    """Compile every repeated block in place: parameters keep their names, equal blocks share their code.

    Raises:
        ModelError: this architecture has no repeated blocks that transformers marks as such.
    """
    blocks = _blocks(causal_lm)
    if not blocks:
        raise ModelError(
            f"model.compile=true: {type(causal_lm).__name__} has no blocks that it knows: set it to false."
        )
    for block in blocks:
        if block.gradient_checkpointing:
            _compile_inside_checkpoint(block, backend)
        else:
            block.compile(dynamic=True, backend=backend)


def _compile_inside_checkpoint(block: Any, backend: str) -> None:
    """Compile what is computed twice, not the checkpoint around it: torch 2.13 compiles nothing of a checkpoint whose
    inside has a break, as attention over segments is."""
    checkpoint = block._gradient_checkpointing_func

    def checkpoint_compiled(function: Any, *inputs: Any) -> Any:
        """`function`: the layer's forward with the layer and its keywords bound to it."""
        inner = _compiled(function.func, backend)
        return checkpoint(partial(inner, *function.args, **function.keywords), *inputs)

    block._gradient_checkpointing_func = checkpoint_compiled


@cache
def _compiled(forward: Callable[..., Any], backend: str) -> Callable[..., Any]:
    return torch.compile(forward, dynamic=True, backend=backend)


def uncompiled(causal_lm: PreTrainedModel) -> AbstractContextManager[object]:
    """Inside, the compiled blocks run as they are: generation grows by a token a step, with other attention."""
    if any(block._compiled_call_impl for block in _blocks(causal_lm)):
        return torch.compiler.set_stance("force_eager")
    return nullcontext()


def _blocks(causal_lm: PreTrainedModel) -> list[Any]:
    return [module for module in causal_lm.modules() if isinstance(module, GradientCheckpointingLayer)]
