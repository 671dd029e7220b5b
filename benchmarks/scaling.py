"""One worker against two, each with one thread: pairs per second of whole training steps, and what the model does not
account for.

    python benchmarks/scaling.py [--repeats 3] [--zero zero3] [--out scaling.json]

Fresh processes of the trainer, alternating; medians over the steps after the first. The model (Qwen2 architecture,
random weights), its tokenizer and the pairs are made here and thrown away afterwards.

overhead: share of a step that is neither forward, backward nor optimizer: planning, packing, metrics, log. On one CPU
worker, where every call returns when its work is done and nobody waits for another worker.
"""

import argparse
import json
import os
import random
import statistics
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # from the checkout, installed or not

LENGTHS = (180, 60, 60)  # median tokens of prompt, chosen, rejected: multi-turn chats with short answers (HH)
SKIPPED = 2  # first steps: buffers, bucket layouts and ZeRO's record of which weight follows which


def main() -> None:
    arguments = parse()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_model(place / "model", arguments.shape)
        write_pairs(place / "pairs.jsonl", arguments)
        launches = [launch(n, place, arguments, repeat) for repeat in range(arguments.repeats) for n in (1, 2)]
    speed = {n: statistics.median(one.pairs_per_second for one in launches if one.workers == n) for n in (1, 2)}
    overhead = statistics.median(one.overhead for one in launches if one.workers == 1)
    result = {
        "shape": arguments.shape,
        "zero": arguments.zero,
        "pairs_per_second": speed,
        "ratio": speed[2] / speed[1],
        "overhead": overhead,
    }
    sys.stdout.write(
        f"1 worker {speed[1]:.2f} pairs/s, 2 workers ({arguments.zero}) {speed[2]:.2f} pairs/s: "
        f"{result['ratio']:.2f}x; outside forward, backward and optimizer: {overhead:.2%} of a step\n"
    )
    if arguments.out:
        Path(arguments.out).write_text(json.dumps(result, indent=2))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=[8192, 512, 8], help="vocabulary, hidden size, layers")
    parser.add_argument("--zero", default="zero3", help="of the two workers; one worker runs plain torch")
    parser.add_argument("--pairs", type=int, default=32, help="per step")
    parser.add_argument("--tokens", type=int, default=8192, help="most tokens of one forward pass")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--set", nargs="*", default=[], metavar="SETTING", help="more settings for train.py")
    parser.add_argument("--out", help="write the result as JSON")
    return parser.parse_args()


def write_model(folder: Path, shape: list[int]) -> None:
    """Random weights, and a tokenizer of one token per letter (of Qwen2's own class: AutoTokenizer builds no other)."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from dpo.model.tiny import END_ID, build_tiny_tokenizer

    vocabulary, hidden, layers = shape
    build_tiny_tokenizer().save_pretrained(folder)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        num_key_value_heads=max(1, hidden // 128),
        intermediate_size=hidden * 11 // 4,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=END_ID,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)


def write_pairs(file: Path, arguments: argparse.Namespace) -> None:
    """Random letters; log-normal lengths with a standard deviation of 0.4 around the medians."""
    dice = random.Random(0)

    def text(median: int) -> str:
        length = max(2, round(median * dice.lognormvariate(0, 0.4)))
        return "".join(dice.choices(string.ascii_lowercase, k=length))

    with file.open("w") as stream:
        for _ in range(arguments.pairs * arguments.steps):
            pair = dict(zip(("prompt", "chosen", "rejected"), map(text, LENGTHS), strict=True))
            stream.write(json.dumps(pair) + "\n")


@dataclass(kw_only=True, slots=True)
class Launched:
    """What one launch of the trainer measured."""

    workers: int
    pairs_per_second: float
    overhead: float


def launch(n: int, place: Path, arguments: argparse.Namespace, repeat: int) -> Launched:
    name = f"workers{n}-{repeat}"
    settings = [
        f"name={name}",
        f"output_dir={place}",
        f"model.path={place / 'model'}",
        f"data.path={place / 'pairs.jsonl'}",
        "model.chat_template=raw",
        f"optim.global_batch_size={arguments.pairs}",
        f"optim.micro_batch_tokens={arguments.tokens}",
        f"zero={'off' if n == 1 else arguments.zero}",
        *("eval.fraction=0", "eval.samples=0", "checkpoint.every=0", "guard.self_check=false"),
        *("track.wandb=off", "track.progress=false"),
        *arguments.set,
    ]
    start = [sys.executable] if n == 1 else [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    start += [] if n == 1 else [f"--nproc_per_node={n}"]
    ended = subprocess.run(
        [*start, __file__, "--worker", *settings],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "SCALING_CLOCK": str(place / name)},
        capture_output=True,
        text=True,
    )
    if ended.returncode:
        raise SystemExit(ended.stdout + ended.stderr)
    rows = [json.loads(line) for line in (place / name / "metrics.jsonl").read_text().splitlines()]
    speeds = [row["pairs_per_second"] for row in rows if row["split"] == "train"][SKIPPED:]
    overhead = json.loads(Path(f"{place / name}.json").read_text())["overhead"]
    sys.stdout.write(f"{n} worker{'s' if n > 1 else ''}: {statistics.median(speeds):.2f} pairs/s\n")
    sys.stdout.flush()
    return Launched(workers=n, pairs_per_second=statistics.median(speeds), overhead=overhead)


@dataclass(slots=True)
class Clock:
    """Seconds inside the step, and of those inside the model and its optimizer, after the first steps."""

    steps: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: {"step": 0.0, "model": 0.0})

    def wrap(self, owner: Any, method: str, part: str) -> None:
        """Time every call of a method."""
        original: Callable[..., Any] = getattr(owner, method)

        def timed(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return original(*arguments, **named)
            finally:
                if self.steps > SKIPPED:
                    self.seconds[part] += time.perf_counter() - start

        setattr(owner, method, timed)


def worker(settings: list[str]) -> int:
    """Train as train.py does, with the clock around the calls of a step."""
    from dpo import cli
    from dpo.distributed.plain import PlainEngine
    from dpo.model.reference import FrozenReference
    from dpo.trainer import Trainer

    clock = Clock()
    engines: list[Any] = [PlainEngine]
    if "zero=off" not in settings:
        from dpo.distributed.zero import ZeroEngine

        engines = [ZeroEngine]
    for owner, methods in ((engines[0], ("forward", "backward", "step")), (FrozenReference, ("logps",))):
        for method in methods:
            clock.wrap(owner, method, "model")
    for method in ("train", "record"):
        clock.wrap(Trainer, method, "step")
    counted = Trainer.train

    def train(trainer: Trainer) -> None:
        clock.steps += 1
        counted(trainer)

    Trainer.train = train  # type: ignore[method-assign]
    code = cli.main(settings)
    if code == 0 and os.environ.get("RANK", "0") == "0":
        share = 1 - clock.seconds["model"] / clock.seconds["step"]
        Path(os.environ["SCALING_CLOCK"] + ".json").write_text(json.dumps({"overhead": share, **clock.seconds}))
    return code


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        sys.exit(worker(sys.argv[2:]))
    main()
