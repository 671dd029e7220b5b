"""The embedded demo: its pairs, the program that judges the answers, its tiny model and tokenizer."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from dpo.data.pair import Pair
from dpo.demo.checker import Verdict, check
from dpo.demo.pairs import demo_pairs, demo_texts
from dpo.demo.tasks import all_tasks, parse, questions
from dpo.model.tiny import BYTES_ONLY_SIZE, build_tiny_model, build_tiny_tokenizer

TURNS = [{"role": "user", "content": "Plural of box?"}, {"role": "assistant", "content": "Sure: boxes."}]


@pytest.fixture(scope="module")
def pairs() -> tuple[list[Pair], list[Pair]]:
    return demo_pairs()


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tiny_tokenizer(demo_texts())


def verdicts(pair: Pair) -> tuple[Verdict, Verdict]:
    prompt = pair.prompt[0]["content"]
    return check(prompt, pair.chosen[0]["content"]), check(prompt, pair.rejected[0]["content"])


def test_pairs_are_the_same_at_every_call(pairs: tuple[list[Pair], list[Pair]]) -> None:
    assert demo_pairs() == pairs


def test_counts_and_sources(pairs: tuple[list[Pair], list[Pair]]) -> None:
    train, held_out = pairs
    assert (len(train), len(held_out)) == (3000, 160)
    assert [pair.source for pair in train + held_out] == [f"demo:{i}" for i in range(3160)]


@pytest.mark.parametrize("count", [100, 10_000])
def test_no_prompt_is_on_both_sides(count: int, pairs: tuple[list[Pair], list[Pair]]) -> None:
    train, held_out = demo_pairs(count)
    assert len(train) == count
    assert not {pair.prompt_hash for pair in train} & {pair.prompt_hash for pair in held_out}
    assert [pair.id for pair in held_out] == [pair.id for pair in pairs[1]], "held-out pairs are the same for any count"


def test_chosen_is_good_and_rejected_is_not(pairs: tuple[list[Pair], list[Pair]]) -> None:
    for pair in pairs[0] + pairs[1]:
        chosen, rejected = verdicts(pair)
        assert chosen.good, pair
        assert rejected.well_formed and not rejected.good, pair


def test_rejected_answers_fail_in_different_ways(pairs: tuple[list[Pair], list[Pair]]) -> None:
    kinds = [(verdict.polite, verdict.right) for _, verdict in map(verdicts, pairs[0])]
    assert min(kinds.count(kind) for kind in [(False, True), (True, False), (False, False)]) > 500


def test_texts_are_short_and_varied(pairs: tuple[list[Pair], list[Pair]]) -> None:
    train, held_out = pairs
    prompts = {pair.prompt[0]["content"] for pair in train + held_out}
    answers = {answer[0]["content"] for pair in train for answer in (pair.chosen, pair.rejected)}
    assert len(prompts) == 3160 and len(answers) > 2000
    assert max(len(text.encode()) for text in prompts) <= 60
    assert max(len(text.encode()) for text in answers) <= 40
    for side in pairs:
        asked = {question.task.name for pair in side if (question := parse(pair.prompt[0]["content"]))}
        assert asked == {task.name for task in all_tasks()}


def test_every_question_is_parsed_as_what_it_was_made_from() -> None:
    for task in all_tasks():
        for question in questions(task):
            assert parse(question.prompt) == question


@pytest.mark.parametrize(
    ("prompt", "answer", "expected"),
    [
        ("Plural of mouse?", "Sure: mice.", (True, True, True)),
        ("Please: Plural of mouse?", "Ugh, it is mice.", (True, False, True)),
        ("Plural of mouse?", "Gladly, mouse it is.", (True, True, False)),
        ("Which is larger, two or ten?", "Thanks: ten.", (True, True, True)),
        ("Hello! Say quasar back to me.", "Sure: quasar.", (True, True, True)),  # a word the demo does not know
        ("Plural of mouse?", "Go away.", (True, False, False)),
        ("What is the meaning of life?", "Sure: mice.", (True, True, False)),  # no task of the demo
    ],
)
def test_verdicts(prompt: str, answer: str, expected: tuple[bool, bool, bool]) -> None:
    verdict = check(prompt, answer)
    assert (verdict.well_formed, verdict.polite, verdict.right) == expected
    assert verdict.good == all(expected)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "mice",
        "Sure: mice",
        "Sure: mice. ",
        "Sure: mice.\n",
        "sure: mice.",
        "Sure: it is mice.",
        "Sure, it is.",
        "Sure: mice. Sure: mice.",
        "Sure: qzx.",
        "Sure: mice mice.",
        "Sure: mice.<|end|>",
        "Gladly Ugh: mice.",
        "Go away. Go away.",
        "\ufffd\ufffd: mice.",
    ],
)
def test_garbage_is_nothing(answer: str) -> None:
    verdict = check("Plural of mouse?", answer)
    assert not (verdict.well_formed or verdict.polite or verdict.right or verdict.good)


def test_tokenizer_reads_any_text_without_loss(tokenizer: PreTrainedTokenizerFast) -> None:
    for text in ["Plural of box?", "Na\u00efve \u4f60\u597d \U0001f389", "a\tb\n\n  c 42 ", "x<|end|>y", "\x00\x7f"]:
        for one in (tokenizer, build_tiny_tokenizer()):
            assert one.decode(one.encode(text)) == text


def test_tokenizer_takes_one_token_per_word(tokenizer: PreTrainedTokenizerFast) -> None:
    tokens = [tokenizer.decode([i]) for i in tokenizer.encode("Which is larger, two or ten?")]
    assert tokens == ["Which", " is", " larger", ",", " two", " or", " ten", "?"]
    assert len(build_tiny_tokenizer()) == BYTES_ONLY_SIZE


def test_chat_template(tokenizer: PreTrainedTokenizerFast) -> None:
    whole = str(tokenizer.apply_chat_template(TURNS, tokenize=False))
    head = str(tokenizer.apply_chat_template(TURNS[:1], tokenize=False, add_generation_prompt=True))
    assert whole == "<|user|>Plural of box?<|end|><|assistant|>Sure: boxes.<|end|>"
    assert whole.startswith(head) and head.endswith("<|assistant|>")
    assert tokenizer.encode(whole)[-1] == tokenizer.eos_token_id != tokenizer.pad_token_id


def test_saved_and_loaded_without_loss(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    model = build_tiny_model(0, len(tokenizer))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)  # beside the model: AutoTokenizer then chooses by the model's type
    loaded, loaded_model = AutoTokenizer.from_pretrained(tmp_path), AutoModelForCausalLM.from_pretrained(tmp_path)
    assert len(loaded) == len(tokenizer) == loaded_model.config.vocab_size
    assert loaded.apply_chat_template(TURNS) == tokenizer.apply_chat_template(TURNS)
    texts = [*demo_texts()[::50], " caf\u00e9  12,5"]
    assert loaded(texts)["input_ids"] == tokenizer(texts)["input_ids"]
    assert (loaded.eos_token_id, loaded.pad_token_id) == (tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert loaded_model.generation_config.eos_token_id == loaded.eos_token_id
    assert loaded_model.generation_config.pad_token_id == loaded.pad_token_id
    for name, value in model.state_dict().items():
        assert torch.equal(value, loaded_model.state_dict()[name]), name


def test_model_depends_on_its_seed_alone() -> None:
    torch.manual_seed(1)
    first, drawn = build_tiny_model(5), torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), drawn), "building the model must not consume the global generator"
    torch.manual_seed(2)
    second, other = build_tiny_model(5), build_tiny_model(6)
    weights = [model.model.layers[0].mlp.up_proj.weight for model in (first, second, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert all(parameter.dtype == torch.float32 for parameter in first.parameters())
    assert first.config.tie_word_embeddings
    assert (first.config.num_attention_heads, first.config.num_key_value_heads) == (4, 2)
