"""From groups to groups with their reference log-probabilities: what is found, computed, or brought along by the rows.

The whole way of `dpo.build_reference`, in one process, with the tiny model and demo pairs.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from one_worker import world

from dpo import build_reference
from dpo.build_data import build_data, build_text
from dpo.build_groups import Sides, build_groups
from dpo.config.checks import check
from dpo.config.compose import compose_run
from dpo.config.derive import derive
from dpo.config.schema import RunConfig
from dpo.data.collate import collate
from dpo.data.group import split_group
from dpo.data.groups import group_pairs
from dpo.data.pair import TokenizedPair
from dpo.data.text.limits import TokenLimits, fit
from dpo.errors import DataError
from dpo.losses.loss import Loss
from dpo.model import attention
from dpo.model.source import policy_source
from dpo.model.tiny import build_tiny_model
from dpo.preempt import StopRequest
from dpo.records import RunFolder
from dpo.reference.store import read_part

pytestmark = pytest.mark.unit


def configured(*overrides: str) -> RunConfig:
    data = [] if any(text.startswith("data.path") for text in overrides) else ["data.demo=40"]
    config = compose_run(["model=tiny", *data, *overrides], 1).config
    check(config)
    derive(config)
    return config


def filled(folder: Path, *overrides: str) -> Sides:
    """The groups after looking up and computing in the cache of `folder`."""
    attention.register()
    config = configured(f"output_dir={folder}", *overrides)
    source = policy_source(config.model, config.seed)
    sets = build_data(config, build_text(config.model, source), RunFolder(folder / "run"), None, StopRequest())
    groups = build_groups(config, sets, Loss(config.loss))
    build_reference.fill_reference(config, source, groups, world(), StopRequest())
    return groups


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """The line on hits of the last call."""
    monkeypatch.setattr(logging.getLogger("dpo"), "propagate", True)
    caplog.set_level(logging.INFO)
    return lambda: [m for m in caplog.messages if "responses found" in m][-1]


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A line for every load of a reference model."""
    found: list[str] = []
    right = build_reference.load
    monkeypatch.setattr(build_reference, "load", lambda *a: found.append("load") or right(*a))
    return found


def test_the_values_are_those_of_the_model(tmp_path: Path) -> None:
    groups = filled(tmp_path)
    model = build_tiny_model(42, len(build_text(configured().model, policy_source(configured().model, 42)).tokenizer))
    for group in (groups.train[0], groups.held_out[-1]):
        assert group.reference is not None
        for response, value in zip(group.responses, group.reference, strict=True):
            ids = torch.tensor([group.prompt_ids + response])
            logps = model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[-len(response) :]
            assert value == pytest.approx(logps.sum().item(), abs=1e-4)


CHANGES = (
    ["loss.beta=0.7", "optim.lr=1e-3", "loss.label_smoothing=0.2"],
    ["optim.epochs=3", "optim.global_batch_size=7", "optim.micro_batch_tokens=333", "optim.scheduler=linear"],
    ["layout=padded", "adapter=lora", "model.gradient_checkpointing=full", "data.group_by_prompt=false"],
    ["eval.fraction=0.2", "reference.batch_tokens=999", "zero.timeout_seconds=9", "model.dropout=true"],
)


def test_what_does_not_touch_the_reference_always_hits(
    tmp_path: Path, said: Callable[[], str], loads: list[str]
) -> None:
    first = filled(tmp_path)
    assert said().startswith("reference: 0 of ") and "computing" in said() and loads == ["load"]
    for overrides in CHANGES:
        again = filled(tmp_path, *overrides)
        assert "computing" not in said(), overrides
        assert [g.reference for g in again.held_out] == [g.reference for g in first.held_out]
    assert loads == ["load"]


@pytest.mark.parametrize("override", ["seed=1", "precision=bf16"])
def test_other_weights_or_another_type_never_hit(override: str, tmp_path: Path, said: Callable[[], str]) -> None:
    filled(tmp_path)
    filled(tmp_path, override)
    assert said().startswith("reference: 0 of ")


def test_only_new_pairs_are_computed(tmp_path: Path, said: Callable[[], str], loads: list[str]) -> None:
    filled(tmp_path, "data.limit=20")
    filled(tmp_path)
    found, total = numbers(said())
    assert 320 < found < total  # the held-out pairs and twenty others
    assert loads == ["load", "load"]


def numbers(line: str) -> tuple[int, int]:
    words = line.replace(",", "").split()
    return int(words[1]), int(words[3])


def test_a_damaged_part_is_computed_again(tmp_path: Path, said: Callable[[], str]) -> None:
    first = filled(tmp_path)
    (part,) = (tmp_path / "reference_cache").glob("*/part-*.safetensors")
    part.write_bytes(part.read_bytes()[:-4])
    again = filled(tmp_path)
    assert said().startswith("reference: 0 of ")
    assert [g.reference for g in again.train] == [g.reference for g in first.train]


@pytest.mark.parametrize(
    ("overrides", "tokens"),
    [([], 4 * 300), (["model.gradient_checkpointing=full"], 2 * 300), (["reference.batch_tokens=7"], 7)],
)
def test_rows_of_the_pass_follow_those_of_training(overrides: list[str], tokens: int) -> None:
    assert configured("optim.micro_batch_tokens=300", *overrides).reference.batch_tokens == tokens


# Values that rows bring along.


def rows_with_values(file: Path, folder: Path, shift: float = 0.0, only: int | None = None) -> list[dict[str, object]]:
    """Thirty pairs with the values that the tiny model itself gives them, the first answer's moved by `shift` nats."""
    rows = [{"prompt": f"Say {i}.", "chosen": f"It is {i}, sir.", "rejected": f"Who knows {i}?"} for i in range(30)]
    write(file, rows)
    groups = filled(folder, f"data.path={file}")
    known = {g.sources[0]: g.reference for g in (*groups.train, *groups.held_out)}
    for line, row in enumerate(rows, start=1):
        if only is None or line <= only:
            chosen, rejected = known[f"{file.name}:{line}"] or (0, 0)
            row |= {"ref_chosen_logps": chosen + shift, "ref_rejected_logps": rejected}
    write(file, rows)
    return rows


def write(file: Path, rows: list[dict[str, object]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_values_of_the_rows_are_used_and_a_few_are_checked(
    tmp_path: Path, said: Callable[[], str], loads: list[str]
) -> None:
    rows_with_values(tmp_path / "pairs.jsonl", tmp_path / "a", shift=-0.01)
    loads.clear()
    groups = filled(tmp_path / "b", f"data.path={tmp_path / 'pairs.jsonl'}")
    assert said().startswith("reference: 0 of 8 ")  # four pairs
    assert loads == ["load"] and groups.supplied
    computed = filled(tmp_path / "a", f"data.path={tmp_path / 'pairs.jsonl'}", "data.reference_logps=ignore")
    for own, model in zip(groups.train, computed.train, strict=True):
        assert own.reference == pytest.approx([model.reference[0] - 0.01, model.reference[1]], abs=1e-5)  # float32
    loads.clear()
    filled(tmp_path / "c", f"data.path={tmp_path / 'pairs.jsonl'}", "reference.spot_check=0")
    assert loads == [] and not (tmp_path / "c" / "reference_cache").exists()


def test_rows_without_values_are_computed_beside_those_with(tmp_path: Path, said: Callable[[], str]) -> None:
    rows_with_values(tmp_path / "pairs.jsonl", tmp_path / "a", only=20)
    groups = filled(tmp_path / "b", f"data.path={tmp_path / 'pairs.jsonl'}")
    assert numbers(said()) == (0, 2 * 10 + 2 * 4)
    assert all(group.reference is not None for group in (*groups.train, *groups.held_out))


def test_wrong_values_are_refused_with_rows_and_both_numbers(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    rows_with_values(file, tmp_path / "a", shift=-2.0)
    with pytest.raises(DataError) as caught:
        filled(tmp_path / "b", f"data.path={file}")
    message = str(caught.value)
    assert message.count(f"{file.name}:") == 4 and "the row says" in message and "the model" in message
    for setting in ("reference.path", "data.reference_logps=ignore", "reference.spot_check=0"):
        assert setting in message
    filled(tmp_path / "b", f"data.path={file}", "reference.spot_check=0")


@pytest.mark.parametrize("kind", ["sharded", "adapter_off"])
def test_values_of_the_rows_and_a_reference_in_every_step_contradict(kind: str, tmp_path: Path) -> None:
    rows_with_values(tmp_path / "pairs.jsonl", tmp_path / "a")
    other = [f"reference={kind}", "adapter=lora", f"data.path={tmp_path / 'pairs.jsonl'}"]
    with pytest.raises(DataError, match=r"data\.reference_logps=ignore"):
        filled(tmp_path / "b", *other)
    assert filled(tmp_path / "b", *other, "data.reference_logps=ignore").train[0].reference is None


def tokenized(prompt: int, chosen: list[int], rejected: list[int], own: tuple[float, float] | None) -> TokenizedPair:
    return TokenizedPair(
        prompt_ids=[prompt],
        chosen_ids=chosen,
        rejected_ids=rejected,
        source=f"a:{chosen}",
        id=str(chosen),
        reference=own,
    )


def test_a_group_uses_them_only_when_all_its_pairs_have_them() -> None:
    first, second = tokenized(1, [2], [3], (-1.0, -2.0)), tokenized(1, [3], [4, 5], (-2.01, -4.0))
    assert group_pairs([first, second], most=9)[0].reference == [-1.0, -2.0, -4.0]
    assert group_pairs([first, replace(second, reference=None)], most=9)[0].reference is None
    with pytest.raises(DataError, match="two reference"):
        group_pairs([first, replace(second, reference=(-2.5, -4.0))], most=9)


def test_a_pair_whose_answer_was_cut_does_not_use_them() -> None:
    pair = tokenized(1, [2, 3, 4], [5, 6], (-1.0, -2.0))
    limits = TokenLimits(max_length=3, truncation="cut_answers")
    assert fit(pair, limits).reference is None
    assert fit(pair, replace(limits, max_length=4)).reference == (-1.0, -2.0)


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_values_follow_their_responses_into_the_batch(layout: str) -> None:
    pairs = [tokenized(1, [2, i], [3, i], (-1.0 - i, -2.0 - i)) for i in range(4)]
    (group,) = group_pairs(pairs, most=9)
    parts = list(split_group(group, lambda g: g.n_pairs <= 2))
    batch = collate(parts, layout)
    assert batch.reference is not None and batch.reference.dtype == torch.float32
    assert batch.reference.tolist() == [-1, -2, -2, -3, -3, -4, -4, -5]
    assert collate([replace(group, reference=None)], layout).reference is None
    assert batch.to(torch.device("cpu")).reference is not None


def test_every_part_is_read_back_as_written(tmp_path: Path) -> None:
    filled(tmp_path)
    (part,) = (tmp_path / "reference_cache").glob("*/part-*.safetensors")
    found = read_part(part)
    assert (found.logps < 0).all() and (found.tokens > 0).all() and found.keys.dtype == "S16"


def test_of_unpaired_rows_what_is_there_is_computed(tmp_path: Path, said: Callable[[], str]) -> None:
    """And the answers to other prompts beside it; of an absent answer nothing."""
    rows = [{"prompt": f"Say {n}.", "completion": f"It is {n}.", "label": n % 3 == 0} for n in range(12)]
    rows += [{"prompt": f"Count {n}.", "chosen": f"{n}!", "rejected": f"No {n}."} for n in range(6)]
    for name, some in (("single", rows[:12]), ("pairs", rows[12:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    sources = ",".join(f"{{path: {tmp_path}/{name}.jsonl}}" for name in ("single", "pairs"))
    settings = ("data.path=null", f"data.sources=[{sources}]", "loss=kto", "eval.fraction=0.3")
    groups = filled(tmp_path, *settings)
    assert all(group.reference is not None for section in groups.sections for group in section)
    lengths = [len(group.reference or []) - len(group.responses) for section in groups.sections for group in section]
    assert {*lengths} == {0}
    n_answers = sum(group.counts.answers for group in (*groups.train, *groups.held_out))
    assert n_answers == 12 + 2 * 6
    n_other = sum(len(group.responses) for section in groups.sections[2:] for group in section)
    assert f"0 of {n_answers + n_other} responses found" in said()
    again = filled(tmp_path, *settings)
    assert f"{n_answers + n_other} of {n_answers + n_other} responses found" in said()
    values = [[group.reference for group in section] for section in groups.sections]
    assert [[group.reference for group in section] for section in again.sections] == values
