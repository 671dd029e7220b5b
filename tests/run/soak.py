"""Kills a run at random moments, over and over, starts it again each time, and holds the end to that of a run which
nobody disturbed. Prints the count of faults and what they cost.

    python tests/run/soak.py [--workers 2] [--kills 50] [--seed 0] [--folder DIR]
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from resumed import without_measured

from launch import ROOT, SMALL, Ended, command, finish, read_rows, start, train, wait_for_step, workers_of

STEPS_PER_KILL = 8  # more than a life lasts: the run must not be done before the last kill


@dataclass(kw_only=True, slots=True)
class Toll:
    """What was done to a run, and what it lost."""

    workers: int
    seed: int
    kills: int = 0
    moments: Counter[str] = field(default_factory=Counter)
    victims: Counter[str] = field(default_factory=Counter)
    lost_steps: list[int] = field(default_factory=list)  # logged, and trained again after a kill
    identical: bool = False

    def report(self) -> str:
        lost = self.lost_steps
        counts = {"workers": self.workers, "seed": self.seed, "kills": self.kills, "identical": self.identical}
        where = {"moments": dict(self.moments), "victims": dict(self.victims)}
        return json.dumps({**counts, **where, "lost_steps": {"sum": sum(lost), "most": max(lost, default=0)}})


@dataclass(kw_only=True, slots=True)
class Soak:
    """One run in one folder, with its enemy."""

    workers: int
    cwd: Path
    settings: tuple[str, ...]
    start_seconds: float  # from launch to first step, undisturbed
    chance: random.Random
    toll: Toll

    def kill_once(self) -> None:
        """One life: from a launch to its end."""
        process = start(command(self.workers, ROOT / "train.py", *self.settings, "name=soak"), self.cwd)
        moment = self.chance.choice(["starting", "training", "saving"])
        victim = self.chance.choice(["everything", "launcher", "worker"]) if self.workers > 1 else "everything"
        try:
            getattr(self, f"_await_{moment}")(process)
        finally:
            logged = self._logged()
            self._strike(process, victim)
            _, output = finish(process)
        if process.returncode == 0:
            raise AssertionError(f"the run was done before the kill:\n{output}")
        self.toll.kills += 1
        self.toll.moments[moment] += 1
        self.toll.victims[victim] += 1
        self.toll.lost_steps.append(max(0, logged - self._saved()))
        sys.stderr.write(f"{self.toll.kills}: {victim} while {moment}, at step {logged}, saved {self._saved()}\n")

    def _strike(self, process: subprocess.Popen[str], victim: str) -> None:
        workers = workers_of(process)
        chosen = {
            "everything": [process.pid, *workers],
            "launcher": [process.pid],
            "worker": [self.chance.choice(workers)],
        }
        for pid in dict.fromkeys(chosen[victim]):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def _await_starting(self, process: subprocess.Popen[str]) -> None:
        """Imports, lock, data, reference, restoring a checkpoint; not longer than until it trains."""
        end = time.monotonic() + self.chance.uniform(0.0, self.start_seconds)
        before = self._logged()
        while time.monotonic() < end and process.poll() is None and self._logged() <= before:
            time.sleep(0.02)

    def _await_training(self, process: subprocess.Popen[str]) -> None:
        wanted = self._saved() + self.chance.randint(1, 3)
        while process.poll() is None and self._logged() < wanted:
            time.sleep(0.005)
        time.sleep(self.chance.uniform(0.0, 0.1))

    def _await_saving(self, process: subprocess.Popen[str]) -> None:
        """While a folder with a temporary name is there."""
        folder = self.cwd / "soak" / "checkpoints"
        before = set(folder.glob(".*"))
        while process.poll() is None and not set(folder.glob(".*")) - before:
            time.sleep(0.001)
        time.sleep(self.chance.uniform(0.0, 0.02))

    def _logged(self) -> int:
        rows = read_rows(self.cwd / "soak" / "metrics.jsonl")
        return max((row["step"] for row in rows), default=0)

    def _saved(self) -> int:
        names = [folder.name.removeprefix("step-") for folder in (self.cwd / "soak" / "checkpoints").glob("step-*")]
        return max((int(name) for name in names if name.isdigit()), default=0)


def soak(workers: int, kills: int, seed: int, cwd: Path) -> Toll:
    """Raises AssertionError when a launch after the kills fails or ends in other numbers."""
    steps = STEPS_PER_KILL * kills
    zero = "zero=zero3" if workers > 1 else "zero=off"
    settings = (*SMALL, zero, "optim.epochs=1000", f"optim.max_steps={steps}", "checkpoint.every=2")
    undisturbed, start_seconds = _undisturbed(workers, settings, cwd)
    chance, toll = random.Random(seed), Toll(workers=workers, seed=seed)
    enemy = Soak(workers=workers, cwd=cwd, settings=settings, start_seconds=start_seconds, chance=chance, toll=toll)
    for _ in range(kills):
        enemy.kill_once()
    survivor = train(workers, *settings, "name=soak", cwd=cwd)
    _compare(survivor, undisturbed)
    toll.identical = True
    return toll


def _undisturbed(workers: int, settings: tuple[str, ...], cwd: Path) -> tuple[Ended, float]:
    """The run that all is held to, and the seconds until its first step."""
    began = time.monotonic()
    process = start(command(workers, ROOT / "train.py", *settings, "name=undisturbed"), cwd)
    wait_for_step(process, cwd / "undisturbed" / "metrics.jsonl", 1)
    seconds = time.monotonic() - began
    code, output = finish(process)
    assert code == 0, output
    return Ended(code=code, output=output, folder=cwd / "undisturbed"), seconds


def _compare(survivor: Ended, undisturbed: Ended) -> None:
    weights = "final/model.safetensors"
    assert (survivor.folder / weights).read_bytes() == (undisturbed.folder / weights).read_bytes(), "other weights"
    assert without_measured(survivor.rows) == without_measured(undisturbed.rows), "other records"
    assert not list(survivor.folder.glob("checkpoints/*damaged*")), "a kill has left a checkpoint that looked whole"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="kept afterwards; without it a temporary one")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        cwd = asked.folder or Path(temporary)
        cwd.mkdir(parents=True, exist_ok=True)
        sys.stdout.write(soak(asked.workers, asked.kills, asked.seed, cwd).report() + "\n")


if __name__ == "__main__":
    main()
