"""The machines that a run is planned for: settings of no effect on the run, for `python -m dpo plan`."""

from dataclasses import dataclass

from dpo.config.fields import number, one_of

# GPUs that the planner knows (dpo/planner/devices.py).
DEVICES = ("a10g", "rtx4090", "l40s", "a100-40gb", "a100-80gb", "h100-80gb", "h200-141gb", "b200", "mi300x")


@dataclass(kw_only=True, slots=True)
class PlanConfig:
    """The machines that `python -m dpo plan` reckons with. A run that starts looks at its own machine instead."""

    gpu: str = one_of("h100-80gb", *DEVICES)
    gpus: int = number(8, low=1)
    gpus_per_node: int = number(8, low=1)
    host_gib: float = number(1024.0, above=0)  # memory of one node's host
    network_gbps: float = number(400.0, above=0)  # between nodes, Gbit/s per GPU: 400: InfiniBand NDR | 200: HDR | 100
    pairs: int | None = number(None, low=1)  # to train on; null: of the prepared pairs, where these settings have some
    prompt_tokens: int = number(220, low=1)  # mean; as long as UltraFeedback's by a Llama tokenizer
    answer_tokens: int = number(310, low=1)  # mean of chosen and rejected
    efficiency: float | None = number(None, above=0, high=1)  # of the GPU's peak in matrix products; null: assumed
    search: bool = False  # try micro-batches, ZeRO stages, offload, checkpointing, sequence parallelism, fewer GPUs
    goal: str = one_of("fastest", "fastest", "cheapest")  # of `search`: least hours, or least GPU-hours
    scaling: bool = False  # the same run on 8 to 1024 GPUs
    force: bool = False  # start a run although its weights, gradients and optimizer alone need more than there is
