"""The benchmark against TRL, without TRL: pairs, tokens, search, arguments, results."""

import json
import statistics
from pathlib import Path

import pytest
import torch
from comparison import arguments, cases, pairs, picture, report
from comparison.causes import every_position
from comparison.jobs import Measured, digest
from comparison.presets import PRESETS, Case
from comparison.profiles import PROFILES, synthetic_pairs
from comparison.search import best, climb
from comparison.shapes import SHAPES
from comparison.words import END, END_ID, WordPair, word_tokenizer

from dpo.data.collate import collate
from dpo.data.formats.convert import convert_rows
from dpo.data.formats.settings import FormatSettings
from dpo.data.groups import group_pairs
from dpo.data.pair import TokenizedPair
from dpo.data.read.files import Origin
from dpo.data.text.template import choose_template
from dpo.data.text.tokenize import tokenize_pairs
from dpo.model import attention
from dpo.model.scorer import Scorer
from dpo.model.tiny import build_tiny_model

pytestmark = pytest.mark.unit

VOCABULARY = 300


@pytest.mark.parametrize("name", PROFILES)
def test_lengths_have_the_stated_medians(name: str) -> None:
    profile = PROFILES[name]
    n_prompts = 101
    made = synthetic_pairs(profile, n_prompts * profile.pairs_per_prompt, VOCABULARY)
    prompts = [len(pair.prompt) for pair in made[:: profile.pairs_per_prompt]]
    assert statistics.median(prompts) == profile.prompt
    # The first answer of the profile is the chosen one of a prompt's first pair. The shared part is not stratified
    # with the own one, so that this median is near and not exact.
    answers = statistics.median(len(pair.chosen) for pair in made[:: profile.pairs_per_prompt])
    assert abs(answers / profile.answers[0] - 1) < 0.15
    assert max(pair.longest for pair in made) <= profile.longest


def test_pairs_of_a_prompt_are_all_there_and_stand_together() -> None:
    made = synthetic_pairs(PROFILES["four"], 12, VOCABULARY)
    groups = pairs.by_prompt(made)
    assert [len(group) for group in groups] == [6, 6]
    assert made == [pair for group in groups for pair in group]
    assert len({answer for pair in groups[0] for answer in (pair.chosen, pair.rejected)}) == 4
    assert made == synthetic_pairs(PROFILES["four"], 12, VOCABULARY)


def test_both_trainers_read_the_same_tokens(tmp_path: Path) -> None:
    made = synthetic_pairs(PROFILES["hh"], 6, VOCABULARY)
    file = pairs.write(made, tmp_path / "pairs.jsonl")
    tokenizer = word_tokenizer(VOCABULARY)
    read = convert_rows(Origin(path=str(file)), FormatSettings()).pairs
    ours = list(tokenize_pairs(read, tokenizer, choose_template(tokenizer, "raw")))
    assert all(isinstance(pair, TokenizedPair) for pair in ours)
    own = digest((p.prompt_ids, p.chosen_ids, p.rejected_ids) for p in ours if isinstance(p, TokenizedPair))
    # TRL's way: the end token's text is added, prompt and answer are tokenized together and cut at the prompt's length.
    trl = digest(_as_trl(json.loads(line)) for line in file.read_text().splitlines())
    assert own == trl == pairs.expected(made)


def _as_trl(row: dict[str, str]) -> tuple[list[int], list[int], list[int]]:
    tokenizer = word_tokenizer(VOCABULARY)
    prompt = tokenizer(row["prompt"])["input_ids"]
    chosen, rejected = (
        tokenizer(row["prompt"] + row[side] + END)["input_ids"][len(prompt) :] for side in ("chosen", "rejected")
    )
    return prompt, chosen, rejected


def test_operations_counted_by_hand() -> None:
    shape = SHAPES["tiny"]
    prompt, chosen, rejected = (5, 6, 7), (8, 9, END_ID), (8, END_ID)
    two = [
        WordPair(prompt=prompt, chosen=chosen, rejected=rejected),
        WordPair(prompt=prompt, chosen=rejected, rejected=chosen),
    ]
    tokens, scored = 3 + 2 + 1, 5
    keys = (1 + 2 + 3) + (4 + 5) + 4
    forward = (
        2 * shape.layers * shape.layer_weights * tokens
        + 4 * shape.hidden * shape.layers * keys
        + 2 * shape.vocabulary * shape.hidden * scored
    )
    assert shape.flops(two) == 3 * forward


def test_a_shape_with_a_small_head_is_measured_on_the_cpu() -> None:
    shares = {case.shape: SHAPES[case.shape].head_share for case in PRESETS["cpu"].cases}
    assert min(shares.values()) < 0.2 < max(shares.values())


def test_layer_weights_are_those_of_the_model(tmp_path: Path) -> None:
    from comparison.shapes import save_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    save_model(SHAPES["tiny"], tmp_path, torch.float32)
    layer = AutoModelForCausalLM.from_pretrained(tmp_path).base_model.layers[0]
    assert sum(p.numel() for p in layer.parameters() if p.dim() == 2) == SHAPES["tiny"].layer_weights
    assert AutoTokenizer.from_pretrained(tmp_path)("w5 w77" + END)["input_ids"] == [5, 77, END_ID]


def _tried(settings: dict[str, object], seconds: float, gib: float = 1.0) -> dict[str, object]:
    return {"settings": settings, "measured": {"seconds": seconds, "peak_gib": gib, "baseline_gib": 0.0}}


def test_search_stops_where_batches_no_longer_pay() -> None:
    seconds = {(1, False): 4.0, (2, False): 3.0, (4, False): 3.5, (2, True): 3.6, (4, True): 3.7, (8, True): 3.9}

    def attempt(settings: dict[str, object]) -> dict[str, object]:
        if not settings["precompute"]:
            return _tried(settings, 5.0)
        return _tried(settings, seconds[settings["batch_size"], settings["checkpointing"]])

    tried = climb(attempt, [1, 2, 4, 8])
    what = [tuple(entry["settings"].values()) for entry in tried]
    assert what == [
        (1, True, False),
        (2, True, False),
        (4, True, False),
        (2, True, True),
        (4, True, True),
        (8, True, True),
        (2, False, False),
    ]
    assert best(tried)["settings"] == {"batch_size": 2, "precompute": True, "checkpointing": False}


def test_the_leanest_of_equally_fast_settings_is_best_and_what_does_not_fit_is_not() -> None:
    too_big = {"settings": {"batch_size": 4}, "measured": None, "why": "out of memory"}
    tried = [_tried({"batch_size": 1}, 1.02, gib=1.0), _tried({"batch_size": 2}, 1.0, gib=2.0), too_big]
    assert best(tried)["settings"] == {"batch_size": 1}
    with pytest.raises(ValueError, match="out of memory"):
        best([too_big])


def test_arguments_are_read() -> None:
    asked = arguments.parse(["preset=cpu", "profiles=hh,four", "repeats=2", "pairs=24", "out=/tmp/r.json"])
    assert asked.picture == Path("/tmp/r.png")
    preset = arguments.chosen(asked)
    assert [case.name for case in preset.cases] == ["small-head/hh", "small-head/four", "large-vocabulary/hh"]
    assert preset.repeats == 2 and {case.n_pairs for case in preset.cases} == {24}


def test_all_wrong_arguments_are_named_at_once() -> None:
    with pytest.raises(arguments.ArgumentError) as caught:
        arguments.parse(["preset=huge", "speed=5", "repeats=none"])
    assert all(word in str(caught.value) for word in ("preset=huge", "speed=5", "repeats=none", "tiny"))
    with pytest.raises(arguments.ArgumentError) as caught:
        arguments.chosen(arguments.parse(["profiles=four,chess", "pairs=10"]))
    assert all(word in str(caught.value) for word in ("profiles=chess", "pairs=10", "multiple of 12"))


def test_scoring_every_position_leaves_the_answers_as_they_were() -> None:
    attention.register()
    pair = TokenizedPair(prompt_ids=[5, 6, 7], chosen_ids=[8, 9], rejected_ids=[4, 3, 2], source="", id="0")
    batch = collate(list(group_pairs([pair])), "padded")
    scorer = Scorer(build_tiny_model(0), "padded")
    whole = every_position(batch)
    assert len(whole.scored) == batch.ids.numel() > len(batch.scored)
    torch.testing.assert_close(scorer(whole)[:-1], scorer(batch))


@pytest.fixture
def results() -> dict[str, object]:
    """Of one case, made from given measurements."""
    made = synthetic_pairs(PROFILES["hh"], 4, VOCABULARY)
    run = {"reference_seconds": 0.5, "baseline_gib": 1.0, "computed_tokens": 10, "inputs": pairs.expected(made)}
    own = [Measured(seconds=s, peak_gib=1.5, overhead=0.02, **run) for s in (1.0, 2.0, 9.0)]
    theirs = [Measured(seconds=s, peak_gib=3.0, **run) for s in (8.0, 8.0, 7.0)]
    cases.require_same_tokens(made, *own, *theirs)
    best_settings = {"batch_size": 1, "precompute": True, "checkpointing": False}
    case = {
        "shape": "tiny",
        "sizes": [256, 64, 2],
        "head_share": 0.18,
        "profile": "hh",
        "pairs": len(made),
        "median_tokens": [180, 60, 60],
        "tried": [_tried(best_settings, 1.0), {"settings": best_settings, "measured": None, "why": "out of memory"}],
        "ours": cases.summary(own, made, {}),
        "trl": cases.summary(theirs, made, best_settings),
        "mfu": {"ours": 0.5, "trl": 0.25},
    }
    case |= cases.ratios(case)
    case["causes"] = [
        {"cause": "prompt per answer", "factor": 5.0, "counts": True},
        {"cause": "reference", "factor": 1.3, "counts": False},
        {"cause": "residual", "factor": 0.8, "counts": True},
    ]
    machine = {"gpus": [], "processor": "CPU", "threads": 2, "date": "2026-01-01", "versions": {"torch": "2"}}
    whole = {"ratio": case["ratio"], "memory_ratio": case["memory_ratio"], "matrix_rate": 1e12, "seconds": 5.0}
    return {**machine, "cases": [case], **whole}


def test_medians_and_ratios(results: dict[str, list[dict[str, object]]]) -> None:
    (case,) = results["cases"]
    assert case["ratio"] == pytest.approx(4.0) and case["memory_ratio"] == pytest.approx(0.25)
    assert case["ours"]["reference_seconds_per_pair"] == pytest.approx(0.125)


def test_other_tokens_are_noticed() -> None:
    made = synthetic_pairs(PROFILES["hh"], 4, VOCABULARY)
    other = Measured(
        seconds=1.0, reference_seconds=None, baseline_gib=0.0, peak_gib=0.0, computed_tokens=1, inputs=digest([])
    )
    with pytest.raises(cases.Disagreement, match="token ids"):
        cases.require_same_tokens(made, other)


def test_results_are_printed_and_drawn(results: dict[str, list[dict[str, object]]], tmp_path: Path) -> None:
    lines: list[str] = []
    report.case(results["cases"][0], lines.append)
    report.end(results, lines.append)
    text = "".join(lines)
    assert "4.00x" in text and "out of memory" in text and "prompt once for both answers" in text
    json.dumps(results)
    picture.draw(results, tmp_path / "results.png")
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")


def test_steps_hold_whole_prompts() -> None:
    assert Case(shape="tiny", profile="four", n_pairs=24).multiple == 12
    for preset in PRESETS.values():
        assert [case.name for case in preset.cases if case.n_pairs % case.multiple] == []
