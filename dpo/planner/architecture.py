"""What memory and time depend on in a model: how many weights, and how wide its layers are."""

from dataclasses import dataclass


@dataclass(kw_only=True, slots=True)
class Linears:
    """All linear layers of one name, such as q_proj, the output head left out."""

    count: int
    inputs: int  # summed over them
    outputs: int  # likewise


@dataclass(kw_only=True, slots=True)
class Architecture:
    """A decoder of equal layers: embedding, layers, last norm, output head."""

    name: str
    parameters: int  # all weights, tied ones once
    layer_parameters: int  # of one layer
    small_parameters: int  # in tensors that ZeRO-3 keeps whole (fewer than sizes.KEPT_WHOLE elements), at most
    large_parameters: int  # in tensors of 2**23 elements and more: 32 MiB in float32
    largest: int  # elements of the largest tensor
    vocabulary: int
    tied: bool
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    intermediate: int
    gated: bool  # SwiGLU and its like: three matrices in the feed-forward block
    fused_norm: bool  # LayerNorm by one kernel; else RMSNorm spelt out, which keeps more for backward
    spelt_activation: bool  # an activation written out in elementary operations (gelu_new)
    packed: bool  # whether it can compute a prompt once for all its answers
    linears: dict[str, Linears]

    @property
    def query_width(self) -> int:
        return self.heads * self.head_size

    @property
    def key_width(self) -> int:
        return self.kv_heads * self.head_size

    @property
    def embedding(self) -> int:
        """Weights of the token embedding, and of the output head."""
        return self.vocabulary * self.hidden

    @property
    def matrices(self) -> int:
        """Weights that every token is multiplied with, the head's left out: all but embeddings, by and large."""
        return self.layers * self.layer_parameters

    def adapter_parameters(self, rank: int, targets: list[str]) -> int:
        """Weights of LoRA adapters of `rank` on the linear layers named in `targets`, or on all-linear."""
        chosen = (
            self.linears if targets == ["all-linear"] else {n: self.linears[n] for n in targets if n in self.linears}
        )
        return rank * sum(linear.inputs + linear.outputs for linear in chosen.values())
