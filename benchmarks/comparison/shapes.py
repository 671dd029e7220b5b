"""The models: stated shapes with random weights, their folders, and what they cost."""

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from comparison.words import END_ID, PAD_ID, WordPair, word_tokenizer


@dataclass(kw_only=True, slots=True)
class Shape:
    """Llama architecture: for Qwen2 transformers would replace the benchmark's tokenizer by one of its own class."""

    vocabulary: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    tied: bool = True  # the output head is the embedding
    adapter: str = "none"

    @property
    def sizes(self) -> list[int]:
        return [self.vocabulary, self.hidden, self.layers]

    @property
    def layer_weights(self) -> int:
        """Weights of the matrices of one layer."""
        kv_width = self.hidden // self.heads * self.kv_heads
        return 2 * self.hidden * (self.hidden + kv_width) + 3 * self.hidden * self.intermediate

    @property
    def head_share(self) -> float:
        """The output head's share of the multiplications, attention scores left out, when every token is scored."""
        head = self.vocabulary * self.hidden
        return head / (head + self.layers * self.layer_weights)

    def flops(self, pairs: list[WordPair]) -> float:
        """Floating-point operations of forward and backward over `pairs` of one prompt that are really needed.

        Two per weight and token; every prompt and every answer once; the head on scored tokens only; scores and their
        sums cost 4 * hidden per layer, query and visible key. Backward costs twice the forward. Nothing recomputed.
        """
        prompt = len(pairs[0].prompt)
        answers = {answer for pair in pairs for answer in (pair.chosen, pair.rejected)}
        lengths = [len(answer) - 1 for answer in answers]  # the last token is only ever a target
        tokens = prompt + sum(lengths)
        keys = prompt * (prompt + 1) / 2 + sum(n * prompt + n * (n + 1) / 2 for n in lengths)
        scored = sum(len(answer) for answer in answers)
        matrices = 2 * self.layers * self.layer_weights * tokens
        scores = 4 * self.hidden * self.layers * keys
        head = 2 * self.vocabulary * self.hidden * scored
        return 3 * (matrices + scores + head)


SHAPES = {
    "small-head": Shape(vocabulary=8192, hidden=512, layers=8, heads=8, kv_heads=4, intermediate=1408),
    "large-vocabulary": Shape(vocabulary=32000, hidden=256, layers=4, heads=4, kv_heads=2, intermediate=704),
    # Qwen2.5-1.5B and -7B
    "1.5b": Shape(vocabulary=151_936, hidden=1536, layers=28, heads=12, kv_heads=2, intermediate=8960),
    "7b-lora": Shape(
        vocabulary=152_064,
        hidden=3584,
        layers=28,
        heads=28,
        kv_heads=4,
        intermediate=18944,
        tied=False,
        adapter="lora",
    ),
    "7b": Shape(vocabulary=152_064, hidden=3584, layers=28, heads=28, kv_heads=4, intermediate=18944, tied=False),
    "tiny": Shape(vocabulary=256, hidden=64, layers=2, heads=4, kv_heads=2, intermediate=128),  # for tests
}


def save_model(shape: Shape, folder: Path, dtype: torch.dtype, seed: int = 0) -> None:
    """Random weights, config and tokenizer as a Hugging Face folder."""
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        intermediate_size=shape.intermediate,
        tie_word_embeddings=shape.tied,
        max_position_embeddings=32768,
        pad_token_id=PAD_ID,
        bos_token_id=None,
        eos_token_id=END_ID,
        dtype=dtype,
    )
    torch.manual_seed(seed)
    with torch.device(_device()):
        model = LlamaForCausalLM(config).to(dtype)
    _save(model, folder)


@torch.no_grad()
def save_neighbour(model: Path, folder: Path, seed: int = 1) -> None:
    """The same model with its weights moved by a tenth of their size: a reference that the policy differs from."""
    torch.manual_seed(seed)
    neighbour = LlamaForCausalLM.from_pretrained(model).to(_device())
    for weight in neighbour.parameters():
        weight.mul_(1 + 0.1 * torch.randn_like(weight))
    _save(neighbour, folder)


def _device() -> str:
    """Billions of random numbers take a CPU a minute."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _save(model: LlamaForCausalLM, folder: Path) -> None:
    """With its tokenizer; the GPU's memory is then the workers' again."""
    model.save_pretrained(folder)
    word_tokenizer(model.config.vocab_size).save_pretrained(folder)
    model.to("meta")
    torch.cuda.empty_cache()  # nothing without a GPU
