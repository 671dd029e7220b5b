"""Shapes of models, and `python -m dpo plan` from end to end: no weights, no network."""

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from planned import job, seven_b
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from dpo import cli, run_planner
from dpo.build_plan import Machines, job_of, planned_architecture
from dpo.config.compose import choices, compose_run
from dpo.config.derive import derive
from dpo.config.schema import LoraAdapterConfig, RunConfig
from dpo.data.batch import PromptGroup
from dpo.data.collate import collate
from dpo.errors import EnvironmentProblem, ModelError
from dpo.model import attention
from dpo.model.adapter import add_lora
from dpo.model.load import without_dropout
from dpo.model.scorer import Scorer
from dpo.model.shape import architecture_of, require_shape, stated_config
from dpo.model.source import policy_source
from dpo.model.tiny import build_tiny_model
from dpo.plan_here import PlanHere
from dpo.planned_lengths import planned_lengths
from dpo.planner.activations import layer_bytes
from dpo.planner.choices import way_of
from dpo.planner.devices import GPUS, cpu_worker
from dpo.planner.job import Lengths
from dpo.planner.report_lengths import read_lengths

pytestmark = pytest.mark.unit

# As the models' own pages count them.
WEIGHTS = {"gpt2": 124_439_808, "qwen05b": 494_032_768, "qwen7b": 7_615_616_512, "qwen72b": 72_706_203_648}


@pytest.fixture(autouse=True)
def own_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's logging stays as it is."""
    monkeypatch.setattr(cli, "setup_logging", lambda is_main: None)
    monkeypatch.setattr(logging.getLogger("dpo"), "propagate", True)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("asked the network"))


def composed(*overrides: str, workers: int = 1) -> RunConfig:
    config = compose_run(list(overrides), workers).config
    derive(config)
    return config


@pytest.mark.parametrize("name", [name for name in choices()["model"] if name != "hf"])
def test_every_model_of_conf_is_planned_without_weights(name: str) -> None:
    config = composed(f"model={name}")
    model = planned_architecture(config, policy_source(config.model, 0))
    if name in WEIGHTS:
        assert model.parameters == WEIGHTS[name]
    assert model.layers * model.layer_parameters + model.embedding * (2 - model.tied) <= model.parameters
    assert model.packed


def test_the_counts_by_hand_are_those_of_the_structure() -> None:
    config = composed("model=qwen7b")
    found, own = planned_architecture(config, policy_source(config.model, 0)), seven_b()
    for key in ("parameters", "layer_parameters", "small_parameters", "large_parameters", "largest", "intermediate"):
        assert getattr(found, key) == getattr(own, key), key
    assert found.adapter_parameters(16, ["all-linear"]) == own.adapter_parameters(16, ["all-linear"])


def test_counting_shards_nothing_and_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """With ZeRO-3 set up, building a model is a collective of transformers'."""
    monkeypatch.setattr("transformers.modeling_utils.is_deepspeed_zero3_enabled", lambda: True)
    monkeypatch.setattr("deepspeed.zero.Init", lambda *_, **__: pytest.fail("would be sharded"))
    config = composed("model=gpt2")
    assert planned_architecture(config, policy_source(config.model, 0)).parameters == WEIGHTS["gpt2"]


def test_a_model_on_this_machine_is_counted_by_its_own_config(tmp_path: Path) -> None:
    LlamaConfig(hidden_size=64, num_hidden_layers=3, vocab_size=300, num_attention_heads=4).save_pretrained(tmp_path)
    config = composed("model=qwen7b", f"model.path={tmp_path}")
    assert planned_architecture(config, policy_source(config.model, 0)).layers == 3
    tiny = composed("model=tiny")
    counted = planned_architecture(tiny, policy_source(tiny.model, 0))
    real = build_tiny_model(0, counted.vocabulary)
    assert counted.parameters == sum(p.numel() for p in real.parameters())


def test_a_stated_shape_is_held_to_the_config_with_both_values() -> None:
    shape = composed("model=qwen7b").model.shape
    assert shape is not None
    source = policy_source(composed("model=qwen7b").model, 0)
    config = stated_config(shape)
    require_shape(shape, config, source)
    require_shape(None, config, source)
    config.hidden_size, config.num_hidden_layers = 4096, 32
    with pytest.raises(ModelError) as caught:
        require_shape(shape, config, source)
    for said in ("model.shape.hidden_size=3584, but 4096", "model.shape.num_hidden_layers=28, but 32", "model=hf"):
        assert said in str(caught.value)


def test_an_architecture_that_transformers_lacks_is_named() -> None:
    shape = composed("model=gpt2").model.shape
    assert shape is not None
    shape.model_type = "gpt99"
    with pytest.raises(ModelError, match=r"model\.shape\.model_type=gpt99"):
        stated_config(shape)


def saved_bytes(model: torch.nn.Module, groups: list[PromptGroup]) -> int:
    """What autograd holds between forward and backward, weights left out."""
    scorer = Scorer(model, "packed").train()
    weights = {p.untyped_storage().data_ptr() for p in scorer.parameters()}
    seen: dict[int, int] = {}
    kept = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = storage.nbytes()
            kept.append(tensor)  # else another may take its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        scorer(collate(groups, "packed"))
    return sum(seen.values())


@pytest.mark.parametrize("kind", ["llama", "llama with LoRA", "gpt2"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_activations_are_what_autograd_keeps(kind: str, precision: str) -> None:
    """Of one layer: what a third adds to two."""
    attention.register()
    answers = [[*range(1, 51)], [*range(2, 42)]]
    group = PromptGroup(prompt_ids=[*range(60)], responses=answers, pairs=[(0, 1)], pair_ids=["a"], sources=["x"])
    sizes = []
    for layers in (2, 3):
        if kind == "gpt2":
            config: LlamaConfig | GPT2Config = GPT2Config(vocab_size=100, n_embd=64, n_layer=layers, n_head=4)
            model = GPT2LMHeadModel(config)
        else:
            config = LlamaConfig(
                vocab_size=100, hidden_size=64, num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=2,
                intermediate_size=176,
            )  # fmt: skip
            model = LlamaForCausalLM(config)
        without_dropout(model)
        model = model.to(torch.bfloat16 if precision == "bf16" else torch.float32)
        if "LoRA" in kind:
            add_lora(model, LoraAdapterConfig(rank=4))
        sizes.append(saved_bytes(model, [group, group]))
    source = policy_source(composed("model=tiny").model, 0)
    counted = architecture_of(config, source)
    # An answer's last token is only ever a target.
    lengths = Lengths(pairs=2, held_out=0, prompt=60, answer=44, longest=148, source="made")
    trained = counted.adapter_parameters(4, ["all-linear"]) if "LoRA" in kind else counted.parameters
    own = job(counted, lengths=lengths, precision=precision, on_cpu=True, trained=trained, adapted="LoRA" in kind)
    tokens = 2 * (60 + 49 + 39)
    assert layer_bytes(own) * tokens == pytest.approx(sizes[1] - sizes[0], rel=0.03)


def test_settings_become_a_job() -> None:
    config = composed("model=qwen7b", "zero=zero3_offload", "adapter=lora", "eval.every=100", "optim=adamw", workers=8)
    lengths = Lengths(pairs=12_800, held_out=100, prompt=10, answer=10, longest=30, source="made")
    own = job_of(config, seven_b(), Machines(GPUS["l40s"], 16, 8), lengths)
    assert (own.stage, own.offload_optimizer, own.offload_weights) == (3, "cpu", "cpu")
    assert (own.nodes, own.steps, own.evaluations, own.reference) == (2, 100, 3, "cached")
    assert own.adapted and own.trained == seven_b().adapter_parameters(16, ["all-linear"])
    assert own.sizes["reduce_bucket_size"] == 2**26
    assert own.reference_tokens == 2 * config.optim.micro_batch_tokens == config.reference.batch_tokens
    on_cpu = job_of(config, seven_b(), Machines(cpu_worker(10), 1, 1), lengths)
    assert on_cpu.offload_optimizer is None  # the host's memory is its own
    on_disk = composed("model=qwen7b", "zero=zero3_nvme", "zero.nvme_path=/mnt/ssd", workers=2)
    assert job_of(on_disk, seven_b(), Machines(cpu_worker(10), 2, 2), lengths).offload_optimizer == "nvme"


@pytest.fixture
def plan(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., str]:
    """What the command says."""

    def run(*arguments: str) -> str:
        assert cli.command_line(["plan", *arguments, f"output_dir={tmp_path}"]) == 0
        return capsys.readouterr().out

    return run


def test_the_command_says_what_fits_and_draws_it(plan: Callable[..., str]) -> None:
    said = plan("model=qwen7b", "zero=zero3", "plan.gpus=8", "plan.pairs=61135")
    assert "fits with " in said and "7.62B weights" in said and "No GPU has been measured" in said
    picture = Path(said.splitlines()[-1])
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_zero_auto_follows_the_planned_gpus(plan: Callable[..., str]) -> None:
    assert "ZeRO 3" in plan("model=qwen05b", "plan.gpus=4")
    assert "ZeRO 0" in plan("model=qwen05b", "plan.gpus=1")


def test_proposals_are_what_the_planner_itself_says_of_them(plan: Callable[..., str]) -> None:
    """Pasted behind the same command, they fit."""
    command = ("model=qwen7b", "zero=zero2", "plan.gpus=2", "plan.gpu=a100-80gb")
    said = plan(*command)
    assert "does not fit: " in said and "the cheapest ways to fit" in said
    lines = said.split("each checked:\n")[1].split("\n\n")[0].splitlines()
    proposals = [line.split("   (")[0].split() for line in lines]
    assert proposals
    for overrides in proposals:
        again = plan(*[c for c in command if c.split("=")[0] not in [o.split("=")[0] for o in overrides]], *overrides)
        assert "fits with " in again, overrides


def test_search_and_scaling(plan: Callable[..., str]) -> None:
    said = plan("model=qwen05b", "plan.gpus=2", "plan.search=true", "plan.goal=cheapest")
    assert "the cheapest ways that fit:" in said and re.search(r"zero=\w+", said)
    said = plan("model=qwen05b", "plan.scaling=true")
    assert "  1024" in said and "No GPU has been measured" in said


def test_a_found_way_composes_to_the_job_that_was_planned() -> None:
    """The planner's short cut and the real composition agree."""
    config = composed("model=qwen7b", "zero=zero3", workers=8)
    model = planned_architecture(config, policy_source(config.model, 0))
    (one, *_) = run_planner.search(run_planner.planned_job(config, model), 1024, "fastest")
    again = run_planner._again(one, ["model=qwen7b", "zero=zero3"], model)
    assert way_of(again.estimate.job) == way_of(one.estimate.job)
    assert again.estimate.memory.peak == pytest.approx(one.estimate.memory.peak)


def report(folder: Path, pairs: int, **sides: dict[str, float]) -> Path:
    """What `dpo report` writes, as far as the planner reads it. Four answers to a prompt: a third of the tokens."""
    measured: dict[str, Any] = {"pairs": pairs, "lengths": sides, "limits": {"max_length": 512}}
    measured["computed"] = {"answer_once": 9_000, "prompt_once": 27_000}
    file = folder / "r.json"
    file.write_text(json.dumps({"measured": measured}))
    return file


def test_lengths_of_a_report(tmp_path: Path) -> None:
    side = {"mean": 90.0, "max": 300, "total": 9_000}
    file = report(tmp_path, 100, prompt=side, chosen=side, rejected=side)
    found = read_lengths(file, chosen_only=False)
    assert found is not None
    assert (found.pairs, found.prompt, found.answer, found.answers, found.longest) == (100, 30, 30, 2, 690)
    alone = read_lengths(file, chosen_only=True)
    assert alone is not None and (alone.answer, alone.answers, alone.longest) == (30, 1, 390)
    assert read_lengths(tmp_path / "none.json", chosen_only=False) is None


def test_lengths_of_unpaired_rows(tmp_path: Path) -> None:
    """60 good answers of 90 tokens and 40 bad ones of 40: one to a row, 70 in the mean."""
    prompt = {"mean": 90.0, "max": 600, "total": 9_000}
    good, bad = {"mean": 90.0, "max": 900, "total": 5_400}, {"mean": 40.0, "max": 50, "total": 1_600}
    found = read_lengths(report(tmp_path, 100, prompt=prompt, chosen=good, rejected=bad), chosen_only=False)
    assert found is not None
    assert (found.answers, found.answer) == (1, pytest.approx(70 / 3))
    assert found.longest == 90 + 422 + 50  # a limit of 512 for prompt and answer


def test_stated_lengths_reach_to_the_limit() -> None:
    found = planned_lengths(composed("model=qwen7b", "plan.pairs=61135"))
    assert (found.pairs, found.held_out, found.prompt, found.answer) == (58078, 3057, 220, 310)
    assert found.longest == 220 + 2 * (2048 - 220)
    assert planned_lengths(composed("model=qwen7b", "loss=sft")).answers == 1


def test_a_run_that_cannot_fit_is_refused_unless_forced() -> None:
    for forced in (False, True):
        config = composed("model=qwen7b", f"plan.force={str(forced).lower()}")
        here = PlanHere(config=config, model=seven_b(), device=cpu_worker(20.0), workers=1, workers_here=1)
        if forced:
            here.require_room()
        else:
            with pytest.raises(EnvironmentProblem, match=r"this machine has 20\.0 GiB"):
                here.require_room()
    PlanHere(config=config, model=None, device=cpu_worker(1.0), workers=1, workers_here=1).require_room()


def test_a_fault_of_the_planner_stops_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that nobody has thought of."""
    monkeypatch.setattr("dpo.plan_here.job_of", lambda *_: 1 / 0)
    config = composed("model=qwen7b")
    PlanHere(config=config, model=seven_b(), device=cpu_worker(1.0), workers=1, workers_here=1).require_room()
