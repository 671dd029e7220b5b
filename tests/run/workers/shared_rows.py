"""Scores a row that all processes share, and the same row alone: `shared_rows.py`.

One JSON line from rank 0: per case the largest relative error of the log-probabilities and of the gradient, and how
many scored positions each rank has.
"""

import copy
import json
import sys
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, MistralConfig, PretrainedConfig, Qwen2Config

from dpo.data.batch import PromptGroup
from dpo.data.collate import collate
from dpo.data.sequence import shard_sequence
from dpo.distributed.sequence import SequenceGroup
from dpo.model import attention, ulysses
from dpo.model.load import without_dropout
from dpo.model.scorer import Scorer

SIZES = {
    "vocab_size": 97,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
MODELS: dict[str, PretrainedConfig] = {
    "qwen2, tied": Qwen2Config(**SIZES, tie_word_embeddings=True),
    "llama, four key heads": LlamaConfig(**{**SIZES, "num_key_value_heads": 4}),
    "llama, one key head": LlamaConfig(**{**SIZES, "num_key_value_heads": 1}),
    "mistral, window of 8": MistralConfig(**SIZES, sliding_window=8),
    "gpt2": GPT2Config(vocab_size=97, bos_token_id=0, eos_token_id=0, n_embd=64, n_layer=3, n_head=4, n_positions=128),
}
# Prompt and responses: several groups in an odd number of tokens, and one long prompt, so that rank 0 scores nothing.
ROWS = {"several": [(20, [12, 3]), (13, [7, 9, 1]), (11, [1, 1]), (1, [9, 10])], "late": [(60, [5, 8])], "filler": []}


def groups(shapes: list[tuple[int, list[int]]]) -> list[PromptGroup]:
    generator = torch.Generator().manual_seed(1)

    def ids(count: int) -> list[int]:
        return torch.randint(3, 97, (count,), generator=generator).tolist()

    return [
        PromptGroup(prompt_ids=ids(p), responses=[ids(r) for r in rs], pairs=[], pair_ids=[""], sources=[""])
        for p, rs in shapes
    ]


def cases() -> Iterator[tuple[str, str, bool, torch.dtype]]:
    for name in MODELS:
        yield name, "several", False, torch.float32
    yield "qwen2, tied", "several", True, torch.float32
    yield "gpt2", "late", True, torch.float32
    yield "llama, one key head", "late", False, torch.float32
    yield "llama, one key head", "filler", False, torch.float32
    yield "qwen2, tied", "several", False, torch.bfloat16


def scored(scorer: Scorer, batch) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[no-untyped-def]
    """Log-probabilities and alignments [R], and the gradient of a sum over the former whose weights differ."""
    logps, alignment = scorer.train()(batch, aligned=True)
    (logps * torch.linspace(-1, 1.3, len(logps))).sum().backward()
    return logps.detach(), alignment.detach(), torch.cat([p.grad.flatten().float() for p in scorer.parameters()])


def errors(name: str, row: str, checkpointing: bool, dtype: torch.dtype) -> dict[str, object]:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(copy.deepcopy(MODELS[name])).to(dtype)
    without_dropout(model)
    batch = collate(groups(ROWS[row]), "packed")
    expected, expected_alignment, expected_gradient = scored(Scorer(copy.deepcopy(model), "packed"), batch)
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    sequence = SequenceGroup(dist.group.WORLD)
    mine = shard_sequence(batch, sequence.rank, sequence.size)
    found, alignment, gradient = scored(Scorer(model, "packed", sequence), mine)
    dist.all_reduce(gradient)
    counts = [torch.zeros(1) for _ in range(sequence.size)]
    dist.all_gather(counts, torch.tensor([float(len(mine.scored))]))
    return {
        "case": f"{name}; {row}; checkpointing {checkpointing}; {dtype}",
        "logps": float(((found - expected) / expected).abs().max()),
        "alignment": float(((alignment - expected_alignment) / expected).abs().max()),
        "gradient": float((gradient - expected_gradient).norm() / expected_gradient.norm()),
        "scored": [int(count) for count in counts],
    }


def main() -> None:
    dist.init_process_group("gloo")
    attention.register()
    ulysses.register()
    found = [errors(*case) for case in cases()]
    if dist.get_rank() == 0:
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()
    dist.destroy_process_group()


main()
