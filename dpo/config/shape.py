"""The sizes of a model, stated so that a run is planned without its files."""

from dataclasses import dataclass


@dataclass(kw_only=True, slots=True)
class ShapeConfig:
    """What config.json says of a model's size, stated here so that a run is planned without it. By transformers' names;
    checked against the real config.json when the model is loaded."""

    model_type: str  # architecture, as transformers names it
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int | None = None  # null: as many as num_attention_heads
    intermediate_size: int | None = None  # of the feed-forward block; null: the architecture's own default
    head_dim: int | None = None  # null: hidden_size / num_attention_heads
    max_position_embeddings: int
    tie_word_embeddings: bool  # the output head is the embedding
