"""A model and tokenizer small enough to train on two CPU cores within minutes: the demo's and the tests'."""

import json
from collections.abc import Iterable
from typing import Any

import torch
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.trainers import BpeTrainer
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

# The special tokens take the first ids, so that pad and end are the same whatever the vocabulary.
PAD, SYSTEM, USER, ASSISTANT, END = SPECIALS = ("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
PAD_ID, END_ID = SPECIALS.index(PAD), SPECIALS.index(END)
BYTES_ONLY_SIZE = 256 + len(SPECIALS)

# One token per header: a turn costs 2 tokens besides its text, where ChatML's would cost 14 bytes.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def tiny_config(vocab_size: int = BYTES_ONLY_SIZE) -> Qwen2Config:
    """The Qwen2 architecture in miniature: tied embeddings, 2 query heads to each key/value head."""
    return Qwen2Config(
        vocab_size=vocab_size,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        initializer_range=0.06,  # 300 warm-up steps got 39 % of the contents right from the usual 0.02, 89 % from 0.05
        dtype="float32",
        pad_token_id=PAD_ID,
        bos_token_id=None,
        eos_token_id=END_ID,
    )


def build_tiny_model(seed: int, vocab_size: int = BYTES_ONLY_SIZE) -> Qwen2ForCausalLM:
    """A model with random float32 weights, the same for the same seed; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(tiny_config(vocab_size))
    settings = {"eos_token_id": END_ID, "pad_token_id": PAD_ID, "do_sample": False}
    model.generation_config = GenerationConfig.from_dict(settings)
    return model


def build_tiny_tokenizer(texts: Iterable[str] = (), vocab_size: int = 1280) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on `texts`: at most `vocab_size` entries, bytes alone when there are none.

    It is of Qwen2's own class: for a Qwen2 model AutoTokenizer builds that class, whatever class was saved, and would
    silently replace another way of splitting the text.
    """
    vocab, merges = _trained(texts, vocab_size)
    return _qwen2_tokenizer(vocab, merges)


def _qwen2_tokenizer(vocab: dict[str, int], merges: list[Any]) -> PreTrainedTokenizerFast:
    return Qwen2Tokenizer(
        vocab=vocab,
        merges=merges,
        unk_token=PAD,  # never produced, the bytes cover everything; a name outside the vocabulary would be added to it
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        model_max_length=1024,
    )


def _trained(texts: Iterable[str], vocab_size: int) -> tuple[dict[str, int], list[Any]]:
    """Vocabulary and merges, (left, right) each, learnt from `texts`, which Qwen2's own rules split into words."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {piece: i for i, piece in enumerate([*SPECIALS, *alphabet])}
    tokenizer: Tokenizer = _qwen2_tokenizer(vocab, []).backend_tokenizer
    trainer = BpeTrainer(
        vocab_size=vocab_size, special_tokens=[*SPECIALS], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [(left, right) for left, right in model["merges"]]
