"""Fused kernels for norms, rotary embeddings and SwiGLU, put into a loaded model: its parameters stay as they are."""

from importlib.util import find_spec

from transformers import PreTrainedModel
from transformers.utils import is_kernels_available

from dpo.errors import ModelError

INSTALL = "pip install -e '.[kernels]', or model.kernels=none"


def missing(kind: str, device: str) -> list[str]:
    """What keeps `model.kernels=kind` from working on this machine, each with its cure; `device`: cuda or cpu."""
    problems = []
    if kind != "none" and device != "cuda":
        problems.append(f"model.kernels={kind} needs a GPU, this run has a {device}: model.kernels=none")
    if kind == "liger" and not find_spec("liger_kernel"):
        problems.append(f"model.kernels=liger: the package liger-kernel is not installed: {INSTALL}")
    if kind == "hub" and not is_kernels_available():
        problems.append(f"model.kernels=hub: no package kernels of a version that transformers accepts: {INSTALL}")
    return problems


def use_kernels(causal_lm: PreTrainedModel, kind: str) -> None:
    """Replace the forward of norms, rotary embeddings and SwiGLU blocks by fused ones; sharded weights are not touched.

    Raises:
        ModelError: there are none for this architecture.
    """
    if kind == "liger":
        _use_liger(causal_lm)
    elif kind == "hub":
        _use_hub(causal_lm)


def _use_liger(causal_lm: PreTrainedModel) -> None:
    from liger_kernel.transformers.monkey_patch import (  # loads triton
        MODEL_TYPE_TO_APPLY_LIGER_FN,
        _apply_liger_kernel_to_instance,
    )

    kind = causal_lm.config.model_type
    if kind not in MODEL_TYPE_TO_APPLY_LIGER_FN:
        known = ", ".join(sorted(MODEL_TYPE_TO_APPLY_LIGER_FN))
        raise ModelError(
            f"model.kernels=liger has no kernels for {kind} (it has them for {known}): model.kernels=hub, or none."
        )
    # Its loss would take the place of the model's forward; the scoring head is ours.
    _apply_liger_kernel_to_instance(causal_lm, cross_entropy=False, fused_linear_cross_entropy=False)


def _use_hub(causal_lm: PreTrainedModel) -> None:
    causal_lm.set_use_kernels(True)  # stays as it was, in silence, where a kernel cannot be fetched
    if not any("forward" in vars(module) for module in causal_lm.modules()):
        raise ModelError(
            f"model.kernels=hub: the hub has no kernels for {type(causal_lm).__name__} on this GPU, or cannot be "
            "reached (HF_HUB_OFFLINE?): model.kernels=liger, or none."
        )
