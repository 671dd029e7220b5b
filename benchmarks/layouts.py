"""The packed layout (each prompt once, no padding) against the padded one (two rows per pair), in the same run.

    python benchmarks/layouts.py [--repeats 5] [--out layouts.json]

Forward and backward of one DPO step over the same pairs through the same model, alternating; medians and their ratio.
Whatever device is there: float32 on a CPU, bf16 on a GPU. Lengths are the medians of public preference sets.
"""

import argparse
import copy
import json
import statistics
import sys
import time
from pathlib import Path

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

sys.path.insert(0, str(Path(__file__).parents[1]))  # from the checkout, installed or not

from dpo.config.losses import SigmoidLossConfig
from dpo.data.batch import Batch, PromptGroup
from dpo.data.collate import collate
from dpo.data.rows import MicroBatches, fill_rows
from dpo.losses.loss import Loss
from dpo.model import attention
from dpo.model.scorer import Scorer
from dpo.step import pair_logps

# (prompt, chosen, rejected) tokens around which the lengths of the pairs vary by a factor of about 2 either way, and
# the share of the shorter answer that both answers begin with.
PROFILES = {
    "multi-turn, short answers": (180, 60, 60, 0.0),
    "one turn, long answers": (110, 290, 250, 0.0),
    "agentic": (1500, 120, 120, 0.0),
    "edits, half in common": (200, 300, 300, 0.5),
    "a tenth in common": (110, 290, 250, 0.1),
}
SEPARATE = "separate"  # packed, but with the answers' common first tokens computed for each
MODELS = {  # vocabulary, hidden size, layers, heads, key/value heads, intermediate size
    "cpu": (8192, 512, 8, 8, 4, 1408),  # the head is under 20 % of the work
    "cuda": (151_936, 1536, 28, 12, 2, 8960),
}


def main() -> None:
    arguments = parse()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    attention.register()
    scorers = {layout: Scorer(build(device), layout) for layout in ("packed", "padded")}
    scorers[SEPARATE] = scorers["packed"]
    results = {}
    for profile, shape in PROFILES.items():
        groups = pairs(shape, arguments.pairs, MODELS[device.type][0])
        batches = {layout: rows(groups, layout, arguments.tokens, device) for layout in scorers}
        seconds = {layout: [] for layout in scorers}
        losses = {}
        for repeat in range(arguments.repeats + 1):
            for layout, scorer in scorers.items():
                elapsed, losses[layout] = step(scorer, batches[layout], arguments.pairs, device)
                if repeat:  # the first one warms up
                    seconds[layout].append(elapsed)
        assert max(losses.values()) - min(losses.values()) < 1e-3, losses
        results[profile] = report(profile, {k: statistics.median(v) for k, v in seconds.items()}, arguments.pairs)
    if arguments.out:
        Path(arguments.out).write_text(json.dumps(results, indent=2))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=8192, help="most tokens of one forward pass")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", help="write the results as JSON")
    return parser.parse_args()


def build(device: torch.device) -> Qwen2ForCausalLM:
    vocabulary, hidden, layers, heads, kv_heads, intermediate = MODELS[device.type]
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        intermediate_size=intermediate,
        tie_word_embeddings=True,
    )
    model = Qwen2ForCausalLM(config).to(device)
    return model.bfloat16() if device.type == "cuda" else model


def pairs(shape: tuple[int, int, int, float], count: int, vocabulary: int) -> list[PromptGroup]:
    """Random tokens, log-normal lengths with a standard deviation of 0.4 around the medians."""
    generator = torch.Generator().manual_seed(1)

    def ids(median: int) -> list[int]:
        length = max(2, int(median * torch.exp(0.4 * torch.randn(1, generator=generator)).item()))
        return torch.randint(vocabulary, (length,), generator=generator).tolist()

    prompt, chosen, rejected, common = shape
    return [
        PromptGroup(
            prompt_ids=ids(prompt),
            responses=alike(ids(chosen), ids(rejected), common),
            pairs=[(0, 1)],
            pair_ids=[str(i)],
            sources=[""],
        )
        for i in range(count)
    ]


def alike(chosen: list[int], rejected: list[int], common: float) -> list[list[int]]:
    shared = int(common * min(len(chosen), len(rejected)))
    return [chosen, chosen[:shared] + rejected[shared:]]


def rows(groups: list[PromptGroup], layout: str, tokens: int, device: torch.device) -> list[Batch]:
    if layout == SEPARATE:
        layout, groups = "packed", [copy.copy(group) for group in groups]
        for group in groups:
            group.n_common = 0
    micro = MicroBatches(layout=layout, max_tokens=tokens, max_pairs=None, world_size=1)
    (mine,) = fill_rows(groups, list(range(len(groups))), micro)
    return [collate([groups[i] for i in row], layout).to(device) for row in mine]


def step(scorer: Scorer, batches: list[Batch], n_pairs: int, device: torch.device) -> tuple[float, float]:
    """(seconds, loss) of forward and backward over all micro-batches; the reference is a constant."""
    loss, total = Loss(SigmoidLossConfig()), 0.0
    scorer.zero_grad(set_to_none=True)
    start = time.perf_counter()
    for batch in batches:
        policy = scorer(batch)
        (values,), slope = loss.value_and_slope(pair_logps(batch, policy.detach(), torch.zeros_like(policy)), [n_pairs])
        (policy * slope).sum().backward()
        total += values.sum().item()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start, total / n_pairs


def report(profile: str, seconds: dict[str, float], n_pairs: int) -> dict[str, float]:
    speed = {layout: n_pairs / value for layout, value in seconds.items()}
    ratio = speed["packed"] / speed["padded"]
    common = speed["packed"] / speed[SEPARATE]
    sys.stdout.write(
        f"{profile:<28} packed {speed['packed']:8.2f} pairs/s   padded {speed['padded']:8.2f} pairs/s   {ratio:.2f}x"
        f"   common first tokens once {common:.2f}x\n"
    )
    return {**speed, "ratio": ratio, "common": common}


if __name__ == "__main__":
    main()
