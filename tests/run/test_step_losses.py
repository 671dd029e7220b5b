"""Losses that look at the whole step, and what one of them remembers: the same numbers on one worker and on two ZeRO-3
workers in small micro-batches, and bit for bit the same after a stop."""

from pathlib import Path
from typing import Any

import pytest
from resumed import STEPS, leg, numbers, run_legs

pytestmark = [pytest.mark.run, pytest.mark.timeout(1600)]

MIX = (
    "loss=mix",
    "loss.terms=[{name: aot_unpaired, beta: 0.3}, {name: bco, weight: 0.5}, {name: kto, weight: 0.5}, {name: sft}]",
)
RUNS: dict[str, tuple[str, ...]] = {
    "aot": ("loss=aot",),
    "kto": ("loss=kto", "loss.desirable_weight=1.3"),
    "bco": ("loss=bco",),
    "unpaired": (
        "loss=mix",
        "loss.terms=[{name: kto, undesirable_weight: 0.7}, {name: bco, weight: 0.5}, {name: sft, weight: 0.1}]",
        "data.path=null",
        "data.sources=[{path: pairs.jsonl, count: 17}, {path: single.jsonl}]",
    ),
}
# A reference beside the policy has to agree with kept values, of mismatched answers too; rewards are of other losses.
MORE: dict[str, tuple[str, ...]] = {
    "mix": MIX,
    "kto-computed": ("loss=kto", "reference=sharded", "layout=padded"),
    "beta-dpo": ("loss=beta_dpo", "loss.momentum=0.5"),
    "simpo": ("loss=simpo", "loss.beta=2"),
    "odds": ("loss=orpo",),
}
ALONE, SHARED = ("zero=off", "optim.micro_batch_pairs=100"), ("zero=zero3", "optim.micro_batch_pairs=1")
SAME = ("loss", "kl/chosen", "logps/chosen")


def legs(runs: dict[str, tuple[str, ...]], place: tuple[str, ...], name: str) -> list[dict[str, Any]]:
    found = [leg(f"{run}-{name}", *settings, *place, "track.every=1") for run, settings in runs.items()]
    for one in found:
        if "loss=mix" in one["settings"]:  # its terms have betas of their own
            one["settings"].remove("loss.beta=0.3")
    return found


def assert_near(found: Path, expected: Path) -> None:
    rows, others = numbers(found / "metrics.jsonl"), numbers(expected / "metrics.jsonl")
    assert [(row["step"], row["split"]) for row in rows] == [(row["step"], row["split"]) for row in others]
    assert len(rows) == STEPS + 5  # held out after every third step, before the first and after the last
    for row, other in zip(rows, others, strict=True):
        where = f"{found.name}, {row['split']} step {row['step']}"
        assert row.keys() == other.keys()
        for name in (name for name in other if name in SAME or name.startswith(("loss/", "rewards/"))):
            assert row[name] == pytest.approx(other[name], abs=1e-5, rel=1e-5), (where, name)
        if "grad_norm" in row:
            assert row["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4), where
    moved = [row["loss"] for row in rows if row["split"] == "train"]
    assert abs(moved[-1] - moved[0]) > 1e-3, "nothing was learnt that could have differed"


def compare(runs: dict[str, tuple[str, ...]], stopped: list[dict[str, Any]], cwd: Path) -> None:
    run_legs(1, [*legs(runs, ALONE, "alone"), *stopped], cwd)
    run_legs(2, legs(runs, SHARED, "shared"), cwd)
    for run in runs:
        assert_near(cwd / f"{run}-shared", cwd / f"{run}-alone")


def test_the_same_on_two_workers_and_after_a_stop(tmp_path: Path) -> None:
    settings = (*RUNS["bco"], *ALONE, "track.every=1")
    stopped = [leg("bco-stopped", *settings, stop_after=5), leg("bco-stopped", *settings)]
    compare(RUNS, stopped, tmp_path)
    rows = [numbers(tmp_path / name / "metrics.jsonl") for name in ("bco-alone", "bco-stopped")]
    assert rows[0] == rows[1], "the shift goes on where it was"
    unpaired = numbers(tmp_path / "unpaired-shared" / "metrics.jsonl")
    assert {"rewards/chosen/single", "rewards/rejected/single", "rewards/accuracies/pairs"} <= unpaired[1].keys()
    assert not any(name in row for row in unpaired for name in ("rewards/margins/single", "rewards/accuracies/single"))
    shifts = [row["rewards/baseline"] for row in rows[0] if row["split"] == "train"]
    assert shifts[0] == 0 and len(set(shifts)) == STEPS


@pytest.mark.slow
def test_sums_and_losses_without_reference(tmp_path: Path) -> None:
    settings = (*MORE["beta-dpo"], *ALONE, "track.every=1")
    compare(MORE, [leg("beta-stopped", *settings, stop_after=5), leg("beta-stopped", *settings)], tmp_path)
    rows, others = (numbers(tmp_path / name / "metrics.jsonl") for name in ("beta-dpo-alone", "beta-stopped"))
    assert rows == others, "the moving average goes on where it was"
    assert len({row["beta"] for row in rows if row["split"] == "train"}) == STEPS
    kept, computed = (numbers(tmp_path / name / "metrics.jsonl") for name in ("kto-computed-alone", "mix-alone"))
    assert kept[0]["rewards/baseline"] == pytest.approx(0, abs=1e-5)
    assert {"loss/aot_unpaired", "loss/bco", "loss/kto", "loss/sft"} <= computed[0].keys()
