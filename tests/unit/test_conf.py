"""Every file under conf/ composes, and what a user gets wrong comes back as one message with the cure."""

import pytest
from composing import composed, problems

from dpo.config.checks import check_device
from dpo.config.compose import as_dict, choices, compose_run
from dpo.config.identity import identity
from dpo.errors import ConfigError

pytestmark = pytest.mark.unit

# Choices that say nothing without a second setting, with one that completes them.
COMPLETED = {
    "model=hf": ["model.path=some-model"],
    "data=files": ["data.path=pairs.jsonl"],
    "reference=adapter_off": ["adapter=lora"],
    "reference=none": ["loss=sft"],
    "zero=zero3_nvme": ["zero.nvme_path=/mnt/ssd"],
}
REFUSED = {"adapter=qlora": "adapter=lora"}
ALL = [f"{group}={choice}" for group, names in choices().items() for choice in names]


@pytest.mark.parametrize("choice", [choice for choice in ALL if choice not in REFUSED])
def test_every_choice_composes_and_passes_the_checks(choice: str) -> None:
    composed(choice, *COMPLETED.get(choice, []))


@pytest.mark.parametrize("choice", REFUSED)
def test_what_comes_later_is_refused_by_name_with_what_to_use_instead(choice: str) -> None:
    (problem,) = problems(choice)
    assert choice in problem
    assert REFUSED[choice] in problem


@pytest.mark.parametrize("model", choices()["model"])
@pytest.mark.parametrize(("adapter", "world_size"), [("none", 8), ("lora", 1)])
def test_models_go_with_adapters_on_any_number_of_workers(model: str, adapter: str, world_size: int) -> None:
    path = COMPLETED.get(f"model={model}", [])
    config = composed(f"model={model}", f"adapter={adapter}", *path, world_size=world_size)
    assert config.adapter.kind == adapter
    assert config.zero.stage == (3 if world_size > 1 else 0)


def test_the_default_is_the_tiny_model_on_the_demo_pairs() -> None:
    config = composed()
    assert (config.model.build, config.loss.name, config.zero.name) == ("tiny", "sigmoid", "off")
    assert config.data.demo > 0


def test_qwen7b_brings_its_data_unless_other_data_is_named() -> None:
    config = composed("model=qwen7b")
    assert config.model.path == "Qwen/Qwen2.5-7B-Instruct"
    assert config.data.path == "HuggingFaceH4/ultrafeedback_binarized"
    assert config.precision == "bf16"
    assert composed("model=qwen7b", "data.path=pairs.jsonl").data.path == "pairs.jsonl"
    assert composed("model=qwen7b", "data=demo").data.demo > 0


def test_a_path_chooses_the_group_that_takes_one_and_says_so() -> None:
    run = compose_run(["model.path=some-model", "data.path=pairs.jsonl"], 1)
    assert (run.config.model.path, run.config.model.build) == ("some-model", None)
    assert (run.config.data.path, run.config.data.demo) == ("pairs.jsonl", 0)
    assert {"model=hf, since model.path is given", "data=files, since data.path is given"} <= set(run.notes)


@pytest.mark.parametrize(("world_size", "stage"), [(1, 0), (2, 3)])
def test_zero_auto_is_decided_by_the_workers_and_says_so(world_size: int, stage: int) -> None:
    for overrides in ([], ["zero=auto"]):
        run = compose_run(overrides, world_size)
        assert run.config.zero.stage == stage
        assert any(note.startswith("zero=auto: ") for note in run.notes)


def test_dimensions_have_names_of_their_own() -> None:
    for given in ("data.objective.weights={helpfulness:0.3,length:-1}", "data.objective.weights.helpfulness=0.3"):
        assert composed("data=helpsteer2", given).data.objective.weights["helpfulness"] == 0.3


def test_sources_are_typed_and_each_can_be_changed_by_its_number() -> None:
    sources = "data.sources=[{path: a.jsonl, weight: 0.5}, {path: owner/set, split: train, name: x, count: 9}]"
    first, second = composed(sources).data.sources
    assert (first.path, first.weight, first.name, first.count) == ("a.jsonl", 0.5, None, None)
    assert (second.path, second.split, second.name, second.count) == ("owner/set", "train", "x", 9)
    assert composed("data=mix", "data.sources.0.weight=2").data.sources[0].weight == 2.0


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["data.sources=[{path: a, wait: 1}]"], "Key 'wait' not in 'SourceConfig'"),
        (["data=mix", "data.sources.0.wait=1"], "Did you mean data.sources.0.weight?"),
        (["data=mix", "data.sources.7.weight=1"], "data.sources has 2 entries"),
    ],
)
def test_a_slip_within_a_source_is_named(overrides: list[str], said: str) -> None:
    (problem,) = problems(*overrides)
    assert said in problem


def test_a_named_zero_stage_stays() -> None:
    assert composed("zero=zero2").zero.stage == 2
    assert composed("zero=off", world_size=2).zero.stage == 0


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("modle=tiny", ["modle", "Did you mean model?", "There are: adapter, "]),
        ("sed=1", ["sed", "Did you mean seed?"]),
        ("loss=sigmod", ["loss=sigmod", "Did you mean sigmoid?", "Choices: aot, aot_unpaired, apo_down, "]),
        (
            "zero=zero4",
            ["zero=zero4", "Choices: auto, off, zero1, zero2, zero2_offload, zero3, zero3_nvme, zero3_offload"],
        ),
        ("optim.lrr=3", ["optim.lrr", "Did you mean optim.lr?", "optim has: "]),
        ("trak.every=2", ["trak.every", "Did you mean track"]),
        ("model.path.x=3", ["model.path.x", "model.path is a single value"]),
        ("optim.lr=fast", ["optim.lr=fast", "Float"]),
        ("model.dropout=maybe", ["model.dropout=maybe", "bool"]),
        ("optim.epochs=null", ["optim.epochs=null"]),
        ("optim", ["`optim`", "group.setting=value"]),
        ("+optim.new=3", ["+optim.new=3", "leave out the +"]),
        ("~track", ["~track", "only changed"]),
        ("optim.lr=1e-6,1e-5", ["optim.lr=1e-6,1e-5", "sweep", "python -m dpo sweep"]),
    ],
)
def test_a_slip_is_named_with_what_was_meant(override: str, said: list[str]) -> None:
    (problem,) = problems(override)
    assert [words for words in said if words not in problem] == []


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["loss=sft", "loss.beta=0.1"], "loss.beta: no such setting. loss has: answers, name"),
        (["loss=sigmoid", "loss.answers=both"], "loss.answers: no such setting."),
        (["adapter.rank=8"], "adapter.rank: no such setting."),
        (["reference=sharded", "reference.sync_every=8"], "reference.sync_every: no such setting."),
        (["reference=cached", "reference.sync_mix=0.5"], "reference.sync_mix: no such setting."),
    ],
)
def test_a_knob_of_another_choice_is_an_error(overrides: list[str], said: str) -> None:
    (problem,) = problems(*overrides)
    assert said in problem


def test_several_slips_come_in_one_message() -> None:
    found = problems("modle=tiny", "loss=sigmod", "zero=zero4")
    assert [text.split(":")[0] for text in found] == ["loss=sigmod", "zero=zero4", "modle"]
    found = problems("optim.lrr=3", "optim.epochs=abc", "adapter=lora", "adapter.rankk=2")
    assert [text.split(":")[0] for text in found] == ["optim.lrr", "optim.epochs=abc", "adapter.rankk"]


def test_a_rollback_needs_something_to_go_back_to_and_a_moment_to_do_so() -> None:
    found = problems(
        "data=demo", "model=tiny", "guard.on_bad=rollback", "guard.max_bad_steps=null", "checkpoint.every=0"
    )
    assert [next(word for word in ("max_bad_steps", "checkpoint.every") if word in text) for text in found] == [
        "max_bad_steps",
        "checkpoint.every",
    ]


def test_what_needs_a_gpu_is_refused_on_a_cpu_all_at_once() -> None:
    config = composed("precision=fp16", "model.activation_offload=true", "model.kernels=liger")
    with pytest.raises(ConfigError) as caught:
        check_device(config, "cpu", ["something else"])
    assert [p.split()[0] for p in caught.value.problems] == [
        "something",
        "precision=fp16",
        "model.activation_offload=true",
    ]
    check_device(config, "cuda", [])


def test_several_contradictions_come_in_one_message() -> None:
    slips = ["precision=fp8", "optim.lr=-1", "loss.beta=0", "reference=none", "name=a/b", "resume=gone"]
    found = problems(*slips)
    assert len(found) == len(slips)
    assert [slip for slip in slips if not any(slip in text for text in found)] == []


def test_what_a_chat_template_takes_has_names_of_its_own() -> None:
    config = compose_run(["model=tiny", "model.chat_template_arguments.enable_thinking=false"], 1).config
    assert config.model.chat_template_arguments == {"enable_thinking": False}
    assert identity(as_dict(config))["model.chat_template_arguments.enable_thinking"] is False


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model=hf"], "model.path is not set"),
        (["data=files"], "data.path is not set"),
        (["model=tiny", "model.path=x"], "model=hf takes a path"),
        (["data=demo", "data.path=x"], "data=files takes a path"),
        (["data.objective.weights={a:0}"], "data.objective.weights.a=0"),
        (["data.objective.margin=true"], "without data.objective.weights"),
        (["data.objective.contradicts=drop"], "without data.objective.weights"),
        (["data.preference=best"], "data.preference=best: must be one of better, safer"),
        (["data.ranked_pairs=some"], "all, best_worst, best_rest"),
        (["data.plain_text=chat"], "user_turn, raw, rendered"),
        (["data=demo", "data.sources=[{path: x}]"], "data=files takes sources"),
        (["data.path=x", "data.sources=[{path: y}]"], "add the path to the sources"),
        (["data.sources=[{path: x}, {name: y}]"], "data.sources[1].path is not set"),
        (["data.sources=[{path: x, weight: 0}]"], "data.sources[0].weight=0.0: must be greater than 0"),
        (["data.sources=[{path: x, weight: 2, count: 7}]"], "choose one"),
        (["data.sources=[{path: x, name: a}, {path: y, name: a}]"], "a name of its own"),
        (["data.sources=[{path: x}]", "data.eval_split=test"], "set data.eval_path too"),
        (["data.sources=[{path: x}]", "data.revision=v1"], "set it on one of data.sources"),
        (["data.sources=[{path: x.jsonl, subset: s}]"], "files on this machine"),
        (["data.path=x.jsonl", "data.data_dir=d"], "files on this machine"),
        (["data.path=x.jsonl", "data.streaming=true"], "data.streaming"),
        (["data.path=x.jsonl", "data.eval_split=test"], "data.eval_split=test has no effect on x.jsonl"),
        (["data.path=some/*", "data.split=test"], "data.split=test has no effect"),
        (["data.sources=[{path: x.csv, split: test}]"], "data.sources[0].split=test has no effect"),
        (["data.path=x.jsonl", "data.decontaminate_drop=0.5"], "without data.decontaminate"),
        (["data=demo", "data.decontaminate=[q.txt]"], "set data.path"),
        (["model.revision=main"], "model.revision"),
        (["reference=none"], "reference=auto"),
        (["loss=sft", "reference=sharded"], "reference=auto"),
        (["loss=sft", "reference.path=x"], "remove it"),
        (["reference=adapter_off"], "adapter=lora"),
        (["reference=sharded", "reference.cache_dir=x"], "reference=cached"),
        (["reference=adapter_off", "adapter=lora", "reference.batch_tokens=9"], "reference=cached"),
        (["reference=moving", "reference.cache_dir=x"], "reference=cached"),
        (["reference=moving", "reference.sync_every=0"], "must be at least 1"),
        (["reference=moving", "reference.sync_mix=0"], "must be greater than 0"),
        (["reference=moving", "reference.sync_mix=1.5"], "must be at most 1"),
        (["reference=moving", "adapter=lora", "reference.sync_mix=0.5"], "reference.sync_mix=1, or adapter=none"),
        (["reference=moving", "adapter=lora", "reference.path=x"], "remove it"),
        (["reference=moving", "zero=zero3_nvme", "zero.nvme_path=/mnt/ssd"], "zero=zero3_offload"),
        (
            ["reference=moving", "zero=zero3", "zero.deepspeed.zero_optimization.zero_hpz_partition_size=8"],
            "zero_hpz_partition_size",
        ),
        (["loss=sft", "reference=moving"], "reference=auto"),
        (["data.max_length=100", "data.max_prompt_length=100"], "data.max_prompt_length=100"),
        (["data.path=x.jsonl", "eval.checker=demo"], "eval.checker=none"),
        (["data.on_bad_row=ignore"], "must be one of error, skip"),
        (["model.gradient_checkpointing=true"], "must be one of none, selective, full"),
        (["model.compile=true", "model.gradient_checkpointing=selective"], "full or none"),
        (["model.compile=true", "zero=zero3"], "zero=zero2"),
        (["track.wandb=maybe"], "must be one of auto, online, offline, off"),
        (["optim.max_steps=0"], "must be at least 1"),
        (["name=.."], "it becomes a folder of its own"),
        (["name=../other"], "it becomes a folder of its own"),
        (["name=/tmp/other"], "it becomes a folder of its own"),
        (["name=.hidden"], "the first no '.'"),
        (["name=reference_cache"], "none of reference_cache, data_cache, data_reports, plans, slurm_logs"),
        (["name=data_reports"], "none of reference_cache, data_cache, data_reports, plans, slurm_logs"),
        (["debug=deterministic", "model.kernels=liger"], "set it to none"),
        (["debug=deterministic", "model.compile=true"], "set it to false"),
        (["debug=deterministic", "optim=adamw_8bit"], "use optim=adamw"),
        (["eval.fraction=1.5"], "must be at most 0.9"),
        (["checkpoint.best=accuracy"], "must be one of loss, rewards/accuracies, rewards/margins"),
        (["checkpoint.best=rewards/margins", "eval.fraction=0"], "set eval.fraction"),
        (["checkpoint.best=rewards/margins", "loss=sft"], "checkpoint.best=loss"),
        (["zero=zero3_nvme"], "zero.nvme_path"),
        (["zero=zero3", "zero.nvme_path=/mnt/ssd"], "zero=zero3_nvme"),
        (["optim=adamw_8bit", "zero=zero2_offload"], "optim=adamw"),
        (["zero=zero3", "zero.deepspeed.zero_optimization.sub_group_size=auto"], "sub_group_size=auto"),
    ],
)
def test_a_contradiction_names_the_setting_to_change(overrides: list[str], said: str) -> None:
    (problem,) = problems(*overrides)
    assert said in problem
