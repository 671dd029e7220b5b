"""Continued on another number of workers or in another ZeRO stage: the same state bit for bit where it is taken up, the
same data, and losses within 1e-5."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from resumed import assert_same_state, leg, numbers, run_legs, tensors

pytestmark = [pytest.mark.run, pytest.mark.timeout(4800)]  # three launches train dozens of runs

Place = tuple[int, str]  # workers, zero=


@dataclass(kw_only=True, slots=True)
class Moved:
    """A run that stops after steps 3 and 7, in between two records, and goes on elsewhere."""

    adapter: str
    places: tuple[Place, Place, Place]
    cwd: Path

    @property
    def name(self) -> str:
        return "-".join([self.adapter, *(f"{n}{zero}" for n, zero in self.places)])

    def leg(self, number: int) -> dict[str, object]:
        again = str(self.cwd / f"{self.name}-again{number}") if number else None
        stop = (3, 7, None)[number]
        settings = (f"adapter={self.adapter}", f"zero={self.places[number][1]}")
        return leg(self.name, *settings, stop_after=stop, again=again)

    def keep(self, number: int) -> None:
        """The checkpoint of that leg: the next one writes it again and later removes it."""
        step = (3, 7)[number]
        shutil.copytree(self.cwd / self.name / "checkpoints" / f"step-{step:08d}", self.cwd / f"{self.name}-{number}")

    def check(self) -> None:
        for number in (1, 2):
            saved = tensors(self.cwd / f"{self.name}-{number - 1}")
            assert_same_state(saved, tensors(self.cwd / f"{self.name}-again{number}"), f"{self.name}, leg {number}")
        found = numbers(self.cwd / self.name / "metrics.jsonl")
        expected = numbers(self.cwd / f"{self.adapter}-undisturbed" / "metrics.jsonl")
        assert [(r["step"], r["split"], r.get("batch")) for r in found] == [
            (r["step"], r["split"], r.get("batch")) for r in expected
        ]
        for row, other in zip(found, expected, strict=True):
            assert row["loss"] == pytest.approx(other["loss"], abs=1e-5, rel=0), f"{self.name}, step {row['step']}"


def launch_and_check(moved: list[Moved], cwd: Path) -> list[str]:
    """One launch per leg for all of them: they agree on the number of workers. Returns the outputs."""
    outputs = []
    for number in range(3):
        legs = [each.leg(number) for each in moved]
        if number == 1:
            adapters = dict.fromkeys(each.adapter for each in moved)
            legs += [leg(f"{a}-undisturbed", f"adapter={a}", "zero=off") for a in adapters]
        outputs.append(run_legs(moved[0].places[number][0], legs, cwd))
        if number < 2:
            for each in moved:
                each.keep(number)
    for each in moved:
        each.check()
    return outputs


def test_two_workers_one_and_two_again(tmp_path: Path) -> None:
    moved = [
        Moved(adapter="none", places=((2, "zero3"), (1, "off"), (2, "zero2")), cwd=tmp_path),
        Moved(adapter="lora", places=((2, "zero2"), (1, "off"), (2, "zero3")), cwd=tmp_path),
    ]
    _, second, third = launch_and_check(moved, tmp_path)
    assert "resume: zero.name: zero3 in the checkpoint, off now: goes on" in second
    assert second.count("resume: workers: 2 in the checkpoint, 1 now: goes on") == 2
    assert third.count("resume: workers: 1 in the checkpoint, 2 now: goes on") == 2


@pytest.mark.slow
@pytest.mark.parametrize("workers", [(1, 2, 2), (2, 2, 1), (2, 1, 1)])
def test_every_stage_after_every_other(workers: tuple[int, int, int], tmp_path: Path) -> None:
    stages = ("off", "zero1", "zero2", "zero3")
    moved = [
        Moved(adapter=adapter, places=tuple(zip(workers, (a, b, a), strict=True)), cwd=tmp_path)  # type: ignore[arg-type]
        for adapter in ("none", "lora")
        for a in stages
        for b in stages
        if a != b
    ]
    launch_and_check(moved, tmp_path)
