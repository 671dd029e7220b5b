"""A tokenizer small enough to be built inside a test: bytes as tokens, a few merges, control tokens."""

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

CONTROL = ("<s>", "</s>", "<|im_start|>", "<|im_end|>")
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def blank_tokenizer() -> PreTrainedTokenizerFast:
    """Characters as tokens, with a blank put before the first word of every text, as sentencepiece does."""
    letters = ["<unk>", "▁", "\n", "[", "]", *"abcdefghij"]
    backend = Tokenizer(models.BPE(vocab={text: i for i, text in enumerate(letters)}, merges=[], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    backend.decoder = decoders.Metaspace(prepend_scheme="first", split=False)
    backend.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in CONTROL])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def tiny_tokenizer(
    *, template: str | None = None, bos: bool = False, eos: str | None = "</s>"
) -> PreTrainedTokenizerFast:
    """Byte-level BPE with the merges "he" and ": h" (over the end of a plain prompt); `bos`: <s> before every text."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "h"), (":", "Ġh"), ("h", "e")]
    vocab = {text: i for i, text in enumerate([*letters, *("".join(pair) for pair in merges)])}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in CONTROL])
    if bos:
        pair = [("<s>", backend.token_to_id("<s>"))]
        backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=pair)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token=eos,
        chat_template=template,
        clean_up_tokenization_spaces=False,
    )
