"""The default name of a run: another for everything that changes the result, the same for everything else."""

import copy
import json
from dataclasses import fields
from functools import cache, reduce
from pathlib import Path
from typing import Any

import pytest
import yaml

from dpo.config.compose import as_dict, as_yaml, choices, compose_run, read_yaml
from dpo.config.identity import changes, run_name
from dpo.config.inputs import inputs
from dpo.config.schema import RunConfig, SourceConfig

pytestmark = pytest.mark.unit

PATHS = ("data.path", "model.path")  # these choose a group too
ROW = {"prompt": "a", "chosen": "b", "rejected": "c"}


@cache
def composed(*overrides: str, workers: int = 1) -> RunConfig:
    return compose_run(list(overrides), workers).config


def config(*overrides: str, workers: int = 1) -> RunConfig:
    """As composed, but composing takes half a second: single settings are put into a copy instead."""
    groups = [text for text in overrides if text.split("=")[0] in choices() or text.startswith(PATHS)]
    found = copy.deepcopy(composed(*groups, workers=workers))
    for text in overrides:
        if text not in groups:
            key, value = text.split("=")
            *path, last = key.split(".")
            section = reduce(getattr, path, found)
            assert last in {f.name for f in fields(section)}
            setattr(section, last, yaml.safe_load(value))
    return found


def name(*overrides: str, workers: int = 1) -> str:
    return run_name(config(*overrides, workers=workers))


def refused(before: list[str], now: list[str]) -> list[str]:
    return changes(as_dict(config(*before)), as_dict(config(*now)), {}, {}).refused


def allowed(before: list[str], now: list[str]) -> list[str]:
    return changes(as_dict(config(*before)), as_dict(config(*now)), {}, {}).allowed


LENGTHS = ("optim.epochs", "optim.max_steps")  # a run may be made longer
OTHER_RESULT = [
    "seed=43",
    "precision=bf16",
    "layout=padded",
    "model.dropout=true",
    "model.chat_template=raw",
    "data.demo=400",
    "data.limit=100",
    "data.max_length=512",
    "data.max_prompt_length=100",
    "data.truncation=cut_answers",
    "data.on_bad_row=skip",
    "adapter=lora",
    "reference.path=somewhere",
    "reference=moving",
    "loss=sft",
    "loss=hinge",
    "loss=mix",
    "loss.beta=0.2",
    "loss.label_smoothing=0.1",
    "optim.lr=0.000001",
    "optim.scheduler=linear",
    "optim.warmup_ratio=0.2",
    "optim.min_lr_ratio=0.1",
    "optim.weight_decay=0.1",
    "optim.beta1=0.8",
    "optim.eps=0.000001",
    "optim.max_grad_norm=0.5",
    "optim.epochs=2",
    "optim.max_steps=7",
    "optim.global_batch_size=16",
    "eval.fraction=0.1",
    "data.reference_logps=ignore",
    "data.plain_text=raw",
    "data.preference=safer",
    "data.ranked_pairs=best_worst",
    "data.objective.weights={helpfulness: 1.0}",
    "data.duplicates=keep",
    "data.decontaminate=[q.txt]",
    "data.decontaminate_drop=0.5",
]
SAME_RESULT = [
    "track.every=10",
    "track.wandb=off",
    "track.project=other",
    "track.progress=false",
    "zero=zero2",
    "zero=zero3",
    "zero.timeout_seconds=60",
    "checkpoint.every=7",
    "checkpoint.keep=5",
    "checkpoint.best=null",
    "checkpoint.background=false",
    "guard.self_check=false",
    "guard.max_bad_steps=null",
    "optim.micro_batch_tokens=1024",
    "optim.micro_batch_pairs=2",
    "model.gradient_checkpointing=full",
    "model.activation_offload=true",
    "model.kernels=liger",
    "model.compile=true",
    "resume=never",
    "reference=sharded",
    "reference=cached",
    "reference.cache_dir=elsewhere",
    "reference.batch_tokens=1000",
    "reference.spot_check=0",
    "data.streaming=true",
]


@pytest.mark.parametrize("override", OTHER_RESULT)
def test_another_result_is_another_run(override: str) -> None:
    assert name(override) != name()


def test_no_two_of_them_share_a_folder() -> None:
    assert len({name(override) for override in OTHER_RESULT}) == len(OTHER_RESULT)


@pytest.mark.parametrize("override", SAME_RESULT)
def test_where_and_how_it_computes_is_the_same_run(override: str) -> None:
    """A run that moves to more workers, or logs elsewhere, continues in its own folder."""
    assert name(override) == name()
    assert refused([], [override]) == []


def test_the_number_of_workers_is_no_part_of_the_name() -> None:
    assert name(workers=1) == name(workers=8)


def test_the_same_settings_give_the_same_name_and_it_reads_well(tmp_path: Path) -> None:
    assert name() == name()
    assert name().startswith("tiny-demo-sigmoid-")
    data = tmp_path / "pairs.jsonl"
    data.write_text(json.dumps(ROW))
    assert name(f"data.path={data}", "loss=sft").startswith("tiny-pairs-sft-")
    assert name("data.path=some/folder/*.csv.gz").startswith("tiny-folder-sigmoid-")
    assert name("data.path=owner/set").startswith("tiny-set-sigmoid-")
    assert name("model.path=some/folder/final").startswith("folder-demo-sigmoid-")  # not "final", which says nothing


def test_a_given_name_stays() -> None:
    assert name("name=mine", "seed=7") == "mine"


def test_the_content_of_a_local_file_is_part_of_the_name(tmp_path: Path) -> None:
    """The same path with another content is another run: its checkpoint must not be continued."""
    data, held = tmp_path / "pairs.jsonl", tmp_path / "held.jsonl"
    data.write_text(json.dumps(ROW))
    held.write_text(json.dumps(ROW))
    overrides = [f"data.path={data}", f"data.eval_path={held}"]
    before = name(*overrides)
    assert name(*overrides) == before
    held.write_text(json.dumps({**ROW, "chosen": "x"}))
    after = name(*overrides)
    assert after != before
    data.write_text(json.dumps({**ROW, "chosen": "x"}))
    assert name(*overrides) not in (before, after)


def with_sources(*paths: Path | str) -> RunConfig:
    found = config("data=files")
    found.data.sources = [SourceConfig(path=str(path), weight=2.0) for path in paths]
    return found


def test_the_content_of_every_source_is_part_of_the_name(tmp_path: Path) -> None:
    for folder in ("one", "two/deep"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "pairs.jsonl").write_text(json.dumps(ROW))
    settings = with_sources(tmp_path / "one" / "*.jsonl", tmp_path / "two", "owner/set")
    before = run_name(settings)
    assert before.startswith("tiny-mix-of-3-sigmoid-")
    assert set(inputs(settings)) == {"data.sources.0.path", "data.sources.1.path"}
    (tmp_path / "two" / "deep" / "pairs.jsonl").write_text(json.dumps({**ROW, "chosen": "x"}))
    after = run_name(settings)
    (tmp_path / "one" / "more.jsonl").write_text(json.dumps(ROW))
    assert len({before, after, run_name(settings)}) == 3
    settings.data.sources[0].weight = 1.0
    assert run_name(settings) not in (before, after)


def test_a_source_may_move_but_not_change(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(ROW if name != "c" else {**ROW, "chosen": "x"}))
    saved, moved, other = (with_sources(tmp_path / f"{name}.jsonl") for name in ("a", "b", "c"))
    found = changes(as_dict(saved), as_dict(moved), inputs(saved), inputs(moved))
    assert (found.refused, len(found.allowed)) == ([], 1)
    (line,) = changes(as_dict(saved), as_dict(other), inputs(saved), inputs(other)).refused
    assert line.startswith("data.sources.0.path: ")


def test_the_content_of_benchmark_files_is_part_of_the_name(tmp_path: Path) -> None:
    (tmp_path / "q.txt").write_text("a question")
    override = f"data.decontaminate=[{tmp_path / 'q.txt'}]"
    before = name(override)
    (tmp_path / "q.txt").write_text("another question")
    assert name(override) != before


def test_the_weights_of_a_local_model_are_part_of_the_name(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"1" * 3000)
    before = name(f"model.path={model}")
    assert name(f"model.path={model}") == before
    (model / "model.safetensors").write_bytes(b"1" * 2999 + b"2")
    assert name(f"model.path={model}") != before


@pytest.mark.parametrize("override", [o for o in SAME_RESULT if o != "resume=never"])
def test_and_its_continuation_says_so_in_one_line(override: str) -> None:
    (line,) = allowed([], [override])
    key, value = override.split("=")
    key = {"zero": "zero.name", "reference": "reference.kind"}.get(key, key)
    after = value if key.endswith((".name", ".kind")) else yaml.safe_load(value)
    assert line.startswith(f"{key}: ") and line.endswith(f" in the checkpoint, {after} now: goes on")


def test_what_files_hold_decides_not_where_they_lie() -> None:
    saved, moved = ({"data": {"path": path}} for path in ("a", "b"))
    held, other = {"data.path": "1"}, {"data.path": "2"}
    assert changes(saved, moved, held, held).allowed == ["data.path: a in the checkpoint, b now: goes on"]
    assert changes(saved, moved, held, other).refused == ["data.path: a in the checkpoint, b now"]
    assert changes(saved, saved, held, held).refused == []
    assert len(changes(saved, saved, held, other).refused) == 1
    assert changes(saved, moved, {}, held).refused, "nothing is known of what it held"


def test_large_weight_files_are_sampled_from_their_first_byte_to_their_last(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    size = 40 * 2**20
    (model / "model.safetensors").write_bytes(bytes(size))
    found = [inputs(config(f"model.path={model}"))]
    for at in (0, size - 1):
        with (model / "model.safetensors").open("r+b") as stream:
            stream.seek(at)
            stream.write(b"1")
        found.append(inputs(config(f"model.path={model}")))
    assert found[0] != found[1] != found[2]
    (model / "README.md").write_text("says nothing about weights")
    assert inputs(config(f"model.path={model}")) == found[2]


def test_differences_name_the_setting_and_both_values() -> None:
    found = refused(["loss.beta=0.1"], ["loss.beta=0.5", "seed=1"])
    assert found == ["loss.beta: 0.1 in the checkpoint, 0.5 now", "seed: 42 in the checkpoint, 1 now"]


@pytest.mark.parametrize("override", ["optim.epochs=3", "optim.max_steps=9", "eval.every=5", "eval.samples=1"])
def test_a_resumed_run_may_go_on_longer_and_look_more_often(override: str) -> None:
    assert refused([], [override]) == []


@pytest.mark.parametrize("override", [o for o in OTHER_RESULT if not o.startswith(LENGTHS)])
def test_a_resumed_run_may_not_change_what_it_computes(override: str) -> None:
    assert refused([], [override])


@pytest.mark.parametrize("setting", ["reference.sync_every=7", "reference.sync_mix=0.5"])
def test_a_reference_that_moves_otherwise_is_another_run(setting: str) -> None:
    assert refused(["reference=moving"], ["reference=moving", setting])
    assert name("reference=moving", setting) != name("reference=moving")


def test_another_term_of_a_mix_is_another_run() -> None:
    one, other = ("loss=mix", "loss.terms=[{name: sigmoid, beta: 0.1}]"), ("loss=mix",)
    assert run_name(composed(*one)) != run_name(composed(*other))
    found = changes(as_dict(composed(*one)), as_dict(composed(*other)), {}, {})
    assert found.refused and found.refused[0].startswith("loss.terms.0.weight: ")
    assert changes(as_dict(composed(*one)), as_dict(composed(*one)), {}, {}).refused == []


def test_a_checkpoint_continues_with_the_other_form_of_moments() -> None:
    """Checkpoints hold float32 moments whatever the optimizer keeps; the default name still tells the runs apart."""
    assert refused([], ["optim.kind=adamw_8bit"]) == []
    assert name("optim.kind=adamw_8bit") != name()


def test_differences_read_back_from_the_file_are_none(tmp_path: Path) -> None:
    """config.yaml is what a resume compares with: a round through YAML may not look like a change."""
    before = composed("adapter=lora", "optim.lr=5e-7", "optim.eps=1e-8", "data.limit=10")
    file = tmp_path / "config.yaml"
    file.write_text(as_yaml(before))
    saved: dict[str, Any] = read_yaml(file)
    found = changes(saved, as_dict(before), {}, {})
    assert (found.refused, found.allowed) == ([], [])
