"""Which folder and which checkpoint a launch continues, what it refuses, and what it says about changed settings."""

import json
import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from one_worker import world
from torch import Tensor

from dpo.checkpoint.save import Checkpoints
from dpo.config.compose import compose_run
from dpo.config.schema import CheckpointConfig, DataConfig, RunConfig
from dpo.errors import CheckpointError
from dpo.records import RunFolder, append_lines, read_metrics
from dpo.run_folder import open_folder, write_settings
from dpo.trainer import Progressed

pytestmark = pytest.mark.unit


class Engine:
    """One parameter."""

    def parameters(self) -> list[tuple[str, Tensor]]:
        return [("p", torch.zeros(2))]

    def state(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        yield "p", {"weight": torch.zeros(2)}


@pytest.fixture(scope="module")
def composed() -> RunConfig:
    return compose_run([], 1).config


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def launched(config: RunConfig, folder: RunFolder) -> int | None:
    """The step that a launch continues from."""
    checkpoint = open_folder(config, folder, world())
    write_settings(config, folder)
    return int(checkpoint.name.removeprefix("step-")) if checkpoint else None


def trained(folder: RunFolder, *steps: int) -> None:
    """A checkpoint, a record and an answer of each of these steps."""
    for step in steps:
        done = Progressed(step=step, evaluated=step)
        checkpoints = Checkpoints(folder.checkpoints, CheckpointConfig(keep=9), world())
        checkpoints.save(step, Engine(), {"progress": done}, {})  # type: ignore[arg-type]
        checkpoints.finish()
        append_lines(folder.metrics, [{"step": step, "split": "train", "loss": 0.5}])
        append_lines(folder.samples, [{"step": step, "answer": "yes"}])


def steps(path: Path) -> list[int]:
    return [row["step"] for row in read_metrics(path)]


def test_records_and_answers_of_later_steps_are_dropped(composed: RunConfig, folder: RunFolder) -> None:
    assert launched(composed, folder) is None
    trained(folder, 0, 4)
    append_lines(folder.metrics, [{"step": 5, "split": "train", "loss": 0.5}])
    append_lines(folder.samples, [{"step": 6, "answer": "yes"}])
    assert launched(composed, folder) == 4
    assert steps(folder.metrics) == steps(folder.samples) == [0, 4]


def test_what_a_run_without_checkpoints_wrote_is_dropped(composed: RunConfig, folder: RunFolder) -> None:
    assert launched(composed, folder) is None
    append_lines(folder.metrics, [{"step": 0, "split": "eval", "loss": 0.7}])
    append_lines(folder.samples, [{"step": 0, "answer": "yes"}])
    assert launched(composed, folder) is None
    assert steps(folder.metrics) == steps(folder.samples) == []


def test_another_runs_checkpoint_is_where_it_begins_but_not_where_it_begins_again(
    composed: RunConfig, folder: RunFolder
) -> None:
    """The same command twice: the second launch goes on from what the first has trained."""
    other = RunFolder(folder.path.with_name("other"))
    launched(composed, other)
    trained(other, 10)
    config = replace(composed, resume=str(other.path))
    assert launched(config, folder) == 10
    trained(folder, 15)
    assert launched(config, folder) == 15
    assert steps(folder.metrics) == [15]


def test_a_run_that_another_checkpoint_replaces_is_kept(composed: RunConfig, folder: RunFolder) -> None:
    other = RunFolder(folder.path.with_name("other"))
    for each in (folder, other):
        launched(composed, each)
    trained(folder, 20)
    trained(other, 10)
    assert launched(replace(composed, resume=str(other.path)), folder) == 10
    assert steps(folder.metrics) == []
    assert steps(folder.path.with_name("run.1") / "metrics.jsonl") == [20]


def test_going_back_to_an_earlier_checkpoint_stays_back(composed: RunConfig, folder: RunFolder) -> None:
    """The later ones would be the newest to the next launch, and the steps between them a gap in the records."""
    launched(composed, folder)
    trained(folder, 5, 10)
    back = replace(composed, resume=str(folder.checkpoints / "step-00000005"))
    assert launched(back, folder) == 5
    assert steps(folder.metrics) == [5]
    assert (folder.checkpoints / "later-step-00000010.1").is_dir()
    trained(folder, 7)
    assert launched(back, folder) == 7
    assert launched(composed, folder) == 7


def test_never_starts_afresh_each_time(composed: RunConfig, folder: RunFolder) -> None:
    launched(composed, folder)
    trained(folder, 5)
    for n in (1, 2):
        assert launched(replace(composed, resume="never"), folder) is None
        assert folder.path.with_name(f"run.{n}").is_dir()
        assert not folder.checkpoints.exists()


def with_data(config: RunConfig, path: Path, text: str) -> RunConfig:
    path.write_text(json.dumps({"prompt": "a", "chosen": text, "rejected": "c"}) + "\n")
    return replace(config, data=DataConfig(path=str(path)))


def test_other_content_under_the_same_path_is_refused(composed: RunConfig, folder: RunFolder) -> None:
    """Also under a given name, which the content has no part in."""
    data = folder.path.with_name("pairs.jsonl")
    config = with_data(composed, data, "b")
    launched(config, folder)
    trained(folder, 5)
    assert launched(config, folder) == 5
    with_data(composed, data, "x")
    with pytest.raises(CheckpointError, match=r"data\.path: .*pairs\.jsonl holds something else"):
        launched(config, folder)


def test_the_same_content_under_another_path_goes_on(
    composed: RunConfig, folder: RunFolder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (folder.path.with_name(name) for name in ("a.jsonl", "b.jsonl"))
    launched(with_data(composed, first, "b"), folder)
    trained(folder, 5)
    said = lines(caplog, monkeypatch)
    assert launched(with_data(composed, second, "b"), folder) == 5
    assert said() == [f"resume: data.path: {first} in the checkpoint, {second} now: goes on"]
    with pytest.raises(CheckpointError, match=r"data\.path: .*b\.jsonl in the checkpoint, .*a\.jsonl now"):
        launched(with_data(composed, first, "x"), folder)


def lines(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """What the log says from here on, but for the line that names the checkpoint."""
    monkeypatch.setattr(logging.getLogger("dpo"), "propagate", True)
    caplog.set_level(logging.INFO, "dpo")
    caplog.clear()
    return lambda: [r.getMessage() for r in caplog.records if re.match(r"resume: (?!continuing)", r.getMessage())]


def test_every_change_that_is_fine_gets_a_line(
    composed: RunConfig, folder: RunFolder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched(composed, folder)
    trained(folder, 5)
    said = lines(caplog, monkeypatch)
    assert launched(composed, folder) == 5
    assert said() == []
    changed = compose_run(["optim.epochs=2", "track.every=10", "zero=zero2", "checkpoint.every=7", "name=run"], 2)
    assert launched(changed.config, folder) == 5
    assert said() == [
        "resume: checkpoint.every: 200 in the checkpoint, 7 now: goes on",
        "resume: optim.epochs: 1.0 in the checkpoint, 2.0 now: goes on; the learning rate follows the schedule of the "
        "new length from here",
        "resume: track.every: 1 in the checkpoint, 10 now: goes on",
        "resume: zero.name: off in the checkpoint, zero2 now: goes on",
    ]


def test_every_change_that_is_not_is_refused_at_once(composed: RunConfig, folder: RunFolder) -> None:
    launched(composed, folder)
    trained(folder, 5)
    changed = compose_run(["seed=7", "loss.beta=0.3", "track.every=10"], 1).config
    with pytest.raises(CheckpointError) as error:
        launched(changed, folder)
    assert "seed: 42 in the checkpoint, 7 now" in str(error.value)
    assert "loss.beta: 0.1 in the checkpoint, 0.3 now" in str(error.value)
    assert "track.every" not in str(error.value)
    assert steps(folder.metrics) == [5], "nothing was touched"
