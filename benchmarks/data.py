"""Preparing many pairs, walking an epoch of them and finding their reference keys: speed and memory, without a model.

    python benchmarks/data.py [pairs=10000,100000,1000000] [tokens=600] [workers=1] [out=data.json]

Synthetic pairs of about `tokens` tokens with log-normal lengths, a byte-level BPE tokenizer trained on their words and
its chat template. Every stage runs in a process of its own. `pairs/s per core`: CPU time of all its processes. `MB`:
memory that only they can free (RssAnon), all of them together, above what it was after the imports, looked at a hundred
times a second. `MB in all`: the process itself at its largest, with libraries and everything (VmHWM).
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # from the checkout, installed or not

import numpy as np

from dpo.config.schema import DataConfig
from dpo.data.groups import group_pairs
from dpo.data.loader import Loader
from dpo.data.plan import DataPlan
from dpo.data.prepare import data_recipes, obtain_all, select
from dpo.data.rows import MicroBatches
from dpo.data.sets import DataSets
from dpo.data.store.obtain import Place
from dpo.data.store.recipe import Tools
from dpo.data.text.limits import TokenLimits
from dpo.data.text.template import choose_template
from dpo.model.tiny import build_tiny_tokenizer
from dpo.reference.responses import Responses

BATCH = 128  # pairs per step
SAMPLE_SECONDS = 0.01
STAGES = ("prepare", "epoch", "reference keys")
WORDS = 1000  # in the texts, each of them about one token


def main() -> None:
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    settings = {"pairs": "10000,100000,1000000", "tokens": "600", "workers": "1", "out": "", "stage": "", "folder": ""}
    if unknown := given.keys() - settings.keys():
        sys.exit(f"{', '.join(unknown)}: no such setting; {__doc__}")
    settings |= given
    if settings["stage"]:
        sys.stdout.write(json.dumps(measure(settings)))
        return
    results = [result for count in settings["pairs"].split(",") for result in measured(settings, int(count))]
    if settings["out"]:
        Path(settings["out"]).write_text(json.dumps(results, indent=2))


def measured(settings: dict[str, str], count: int) -> Iterator[dict[str, Any]]:
    """Every stage on `count` pairs, each in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        write_pairs(Path(folder) / "pairs.jsonl", count, int(settings["tokens"]))
        for stage in STAGES:
            own = {**settings, "stage": stage, "folder": folder, "pairs": str(count)}
            command = [sys.executable, __file__, *(f"{key}={value}" for key, value in own.items())]
            result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            sys.stdout.write(
                f"{stage:<16}{count:>9,} pairs {result['pairs_per_core_second']:>9,.0f} pairs/s per core "
                f"{result['mb']:>7,.1f} MB {result['mb_in_all']:>7,.0f} MB in all\n"
            )
            sys.stdout.flush()
            yield result


def write_pairs(file: Path, count: int, tokens: int) -> None:
    """One prompt in ten stands in the data twice."""
    rng = np.random.default_rng(0)
    share = np.array([0.25, 0.4, 0.35])  # of prompt, chosen and rejected
    lengths = np.clip(rng.lognormal(np.log(tokens * share), 0.6, (count, 3)), 2, 8 * tokens).astype(int).tolist()
    words, draw = _words(), random.Random(0)
    with file.open("w") as lines:
        for i, (prompt, chosen, rejected) in enumerate(lengths):
            if i % 10 or not i:
                asked = f"{i} " + " ".join(draw.choices(words, k=prompt))
            row = {
                "prompt": asked,
                "chosen": " ".join(draw.choices(words, k=chosen)),
                "rejected": " ".join(draw.choices(words, k=rejected)),
            }
            lines.write(json.dumps(row) + "\n")


def _words() -> list[str]:
    draw = random.Random(1)
    return ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(WORDS)]


def measure(settings: dict[str, str]) -> dict[str, Any]:
    """One stage, in this process."""
    tokenizer = build_tiny_tokenizer([" ".join(_words()[i::50]) for i in range(50)], 8000)
    tools = Tools(tokenizer=tokenizer, template=choose_template(tokenizer, "auto"), limits=TokenLimits(max_length=8192))
    config = DataConfig(path=str(Path(settings["folder"], "pairs.jsonl")))
    place = Place(cache=Path(settings["folder"], "cache"), processes=int(settings["workers"]), shown=False)
    stage, count = settings["stage"], int(settings["pairs"])
    with Memory() as memory:
        start = _cpu_seconds()
        recipes = data_recipes(config, tools)
        digests = [recipe.digest(place.cache) for recipe in recipes]
        obtain_all(recipes, digests, place)
        if stage == "epoch":
            walk(select(recipes, digests, place, 0.05))
        elif stage == "reference keys":
            find_keys(select(recipes, digests, place, 0.05))
        seconds = _cpu_seconds() - start
    return {
        "stage": stage,
        "pairs": count,
        "workers": place.processes,
        "pairs_per_core_second": count / seconds,
        "mb": memory.most / 1e6,
        "mb_in_all": _status(os.getpid())["VmHWM"] / 1e6,
    }


def walk(sets: DataSets) -> None:
    """All steps of an epoch, as training loads them on one of 8 workers."""
    plan = DataPlan(group_pairs(sets.train, BATCH), seed=0, global_batch_size=BATCH)
    micro = MicroBatches(layout="packed", max_tokens=8192, max_pairs=None, world_size=8)
    total = plan.total_steps(1, None)
    loader = Loader(plan=plan, micro=micro, worker=0, pin=False, total_steps=total)
    for step in range(total):
        loader.step(step)


def find_keys(sets: DataSets) -> None:
    Responses([group_pairs(sets.train, BATCH), group_pairs(sets.held_out, BATCH)])


class Memory:
    """The most that this process and its children have held at a time, in bytes above the beginning."""

    def __enter__(self) -> "Memory":
        self.most, self._first, self._over = 0, _held(), threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            self.most = max(self.most, _held() - self._first)


def _cpu_seconds() -> float:
    """Of this process and the children that have ended: whatever else the machine does, and however many they are."""
    return sum(used.ru_utime + used.ru_stime for used in map(getrusage, (RUSAGE_SELF, RUSAGE_CHILDREN)))


def _held() -> int:
    children = [pid for thread in Path("/proc/self/task").glob("*/children") for pid in thread.read_text().split()]
    return sum(_status(pid).get("RssAnon", 0) for pid in (os.getpid(), *map(int, children)))


def _status(pid: int) -> dict[str, int]:
    """Bytes by name; nothing of a process that has just ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith(" kB")}


if __name__ == "__main__":
    main()
