"""Tokenizing: the prompt as a true prefix, one BOS, the end-of-turn token scored last, what a row brings as ids."""

from typing import Any

import pytest
from data_tokenizers import CHATML, blank_tokenizer, tiny_tokenizer

from dpo.data.pair import Message, Pair, Reject, TokenizedPair
from dpo.data.text.template import ChatTemplate, choose_template
from dpo.data.text.tokenize import tokenize_pairs


def pair(prompt: str | list[Message], chosen: str = "he does", rejected: str = "he", **fields: Any) -> Pair:
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    chosen_turns, rejected_turns = ([{"role": "assistant", "content": text}] for text in (chosen, rejected))
    return Pair(**{"prompt": turns, "chosen": chosen_turns, "rejected": rejected_turns, "source": "a:1", **fields})


def tokenized(one: Pair, tokenizer: Any, setting: str = "auto") -> TokenizedPair:
    result = next(tokenize_pairs([one], tokenizer, choose_template(tokenizer, setting)))
    assert isinstance(result, TokenizedPair), result
    return result


def with_template(text: str, one: Pair, tokenizer: Any) -> TokenizedPair | Reject:
    return next(tokenize_pairs([one], tokenizer, ChatTemplate(name="test", jinja=text)))


def text_of(tokenizer: Any, ids: list[int]) -> str:
    return str(tokenizer.decode(ids))


def test_chatml_prompt_and_answers() -> None:
    tokenizer = tiny_tokenizer(template=CHATML)
    found = tokenized(pair("Is he?", margin=2.0), tokenizer)
    assert text_of(tokenizer, found.prompt_ids) == "<|im_start|>user\nIs he?<|im_end|>\n<|im_start|>assistant\n"
    assert text_of(tokenizer, found.chosen_ids) == "he does<|im_end|>"  # not the line break after it
    assert text_of(tokenizer, found.rejected_ids) == "he<|im_end|>"
    assert found.chosen_ids[-1] == tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert (found.source, found.margin, found.cut) == ("a:1", 2.0, ())
    assert found.id == pair("Is he?", margin=2.0).id


def test_a_merge_over_the_boundary_does_not_change_the_prompt() -> None:
    tokenizer = tiny_tokenizer()
    found = tokenized(pair("Q"), tokenizer)
    whole = tokenizer("User: Q\n\nAssistant: he", add_special_tokens=False)["input_ids"]
    prompt = tokenizer("User: Q\n\nAssistant:", add_special_tokens=False)["input_ids"]
    assert whole[: len(prompt)] != prompt  # the trap is there: ":" and " h" became one token
    assert found.prompt_ids == prompt
    assert text_of(tokenizer, found.prompt_ids + found.chosen_ids) == "User: Q\n\nAssistant: he does</s>"


@pytest.mark.parametrize("setting", ["auto", "raw"])
def test_exactly_one_bos_where_the_tokenizer_uses_one(setting: str) -> None:
    tokenizer = tiny_tokenizer(bos=True)
    found = tokenized(pair("Q"), tokenizer, setting)
    assert (found.prompt_ids + found.chosen_ids + found.rejected_ids).count(tokenizer.bos_token_id) == 1
    assert found.prompt_ids[0] == tokenizer.bos_token_id


def test_a_bos_that_the_template_spells_is_not_doubled() -> None:
    tokenizer = tiny_tokenizer(bos=True, template="{{ bos_token }}" + CHATML)
    found = tokenized(pair("Q"), tokenizer)
    assert found.prompt_ids.count(tokenizer.bos_token_id) == 1


def test_no_bos_where_the_tokenizer_uses_none() -> None:
    tokenizer = tiny_tokenizer()
    assert tokenizer.bos_token_id not in tokenized(pair("Q"), tokenizer).prompt_ids


def test_no_blank_comes_between_prompt_and_answer() -> None:
    tokenizer = blank_tokenizer()
    assert tokenizer.convert_ids_to_tokens(tokenizer("cd", add_special_tokens=False)["input_ids"]) == ["▁", "c", "d"]
    found = tokenized(pair("ab", "cd", "e f"), tokenizer, "raw")
    names = [tokenizer.convert_ids_to_tokens(i) for i in (found.prompt_ids, found.chosen_ids, found.rejected_ids)]
    assert names == [["▁", "a", "b"], ["c", "d", "</s>"], ["e", "▁", "f", "</s>"]]


def test_raw_is_the_texts_and_eos() -> None:
    tokenizer = tiny_tokenizer(template=CHATML)
    found = tokenized(pair("Q:", " A", " B</s>"), tokenizer, "raw")
    assert text_of(tokenizer, found.prompt_ids) == "Q:"
    assert text_of(tokenizer, found.chosen_ids) == " A</s>"
    assert text_of(tokenizer, found.rejected_ids) == " B</s>"  # spelt out already


def test_a_raw_prompt_is_raw_whatever_the_template() -> None:
    tokenizer = tiny_tokenizer(template=CHATML)
    found = tokenized(pair([{"role": "raw", "content": "Once"}]), tokenizer)
    assert text_of(tokenizer, found.prompt_ids + found.chosen_ids) == "Oncehe does</s>"


def test_a_template_that_trims_is_followed() -> None:
    tokenizer = tiny_tokenizer()
    trimming = CHATML.replace("m['content']", "m['content'] | trim")
    found = with_template(trimming, pair(" Q ", " yes ", "no<|im_end|> "), tokenizer)
    assert isinstance(found, TokenizedPair)
    assert text_of(tokenizer, found.chosen_ids) == "yes<|im_end|>"
    assert found.rejected_ids.count(tokenizer.convert_tokens_to_ids("<|im_end|>")) == 1


def test_eos_is_put_where_the_template_ends_no_turn() -> None:
    tokenizer = tiny_tokenizer()
    found = with_template("{% for m in messages %}[{{ m['content'] }}]\n{% endfor %}", pair("Q", "yes"), tokenizer)
    assert isinstance(found, TokenizedPair)
    assert text_of(tokenizer, found.prompt_ids + found.chosen_ids) == "[Q]\n[yes]</s>"


THINKING = (  # like Qwen3: a finished answer opens with an empty thought, a generated one does not
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' and loop.last %}<think></think>{% endif %}"
    "{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
OPEN_THOUGHT = (  # like DeepSeek-R1: a generated answer opens with a thought, a finished one does not
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)


def test_what_a_template_puts_before_an_answer_belongs_to_the_answer() -> None:
    tokenizer = tiny_tokenizer()
    found = with_template(THINKING, pair("Q", "yes"), tokenizer)
    assert isinstance(found, TokenizedPair)
    assert text_of(tokenizer, found.prompt_ids) == "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n"
    assert text_of(tokenizer, found.chosen_ids) == "<think></think>yes<|im_end|>"


def test_a_header_that_finished_answers_lack_is_not_part_of_the_prompt() -> None:
    tokenizer = tiny_tokenizer()
    found = with_template(OPEN_THOUGHT, pair("Q", "<thanks", "<t"), tokenizer)  # shares letters with "<think>"
    assert isinstance(found, TokenizedPair)
    assert text_of(tokenizer, found.prompt_ids) == "<|im_start|>user\nQ<|im_end|><|im_start|>assistant\n"
    assert text_of(tokenizer, found.chosen_ids) == "<thanks<|im_end|>"


def test_a_prompt_never_ends_within_a_control_token() -> None:
    tokenizer = tiny_tokenizer()
    template = (
        "{% for m in messages %}{% if m['role'] == 'assistant' %}<|im_end|>{% endif %}[{{ m['content'] }}]{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>{% endif %}"
    )
    found = with_template(template, pair("Q", "yes"), tokenizer)  # the two headers share "<|im_"
    assert isinstance(found, TokenizedPair)
    assert text_of(tokenizer, found.prompt_ids) == "[Q]"
    assert text_of(tokenizer, found.chosen_ids) == "<|im_end|>[yes]</s>"


REJECTED = [
    (  # the prompt depends on what the answer says
        "{% if 'he' in messages[-1]['content'] %}!{% endif %}{% for m in messages %}{{ m['content'] }}</s>{% endfor %}",
        {},
        "template does not keep the prompt as a prefix",
    ),
    (
        "{% for m in messages %}{{ messages | length }}{{ m['content'] }}</s>{% endfor %}",
        {},
        "template does not keep the prompt as a prefix",
    ),
    ("{% for m in messages %}{{ m['content'] | upper }}</s>{% endfor %}", {}, "template changes the answer"),
    (
        "{% for m in messages %}{{ m['content'][:30] }}</s>{% endfor %}",
        {"chosen": "y" * 40},
        "template changes the answer",
    ),
    ("{{ raise_exception('no such roles') }}", {}, "chat template refuses the messages"),
    (CHATML, {"chosen": "yes", "rejected": "no", "prompt": "Q"}, ""),
    (
        "{% for m in messages %}{{ m['content'] | replace('Q', 'W') }}</s>{% endfor %}",
        {"prompt": "Q</s>"},
        "template changes the prompt",
    ),
    (
        "{% for m in messages %}{{ m['content'] | trim }}</s>{% endfor %}",
        {"chosen": "same ", "rejected": " same"},
        "chosen equals rejected",
    ),
]


@pytest.mark.parametrize(("template", "texts", "reason"), REJECTED)
def test_what_cannot_be_tokenized_exactly_is_a_reject(template: str, texts: dict[str, str], reason: str) -> None:
    result = with_template(template, pair(**{"prompt": "Q", **texts}), tiny_tokenizer())
    assert (result.reason if isinstance(result, Reject) else "") == reason


def test_raw_texts_are_single_messages() -> None:
    turns = [{"role": "assistant", "content": "x"}] * 2
    several = Pair(prompt=[{"role": "user", "content": "Q"}], chosen=turns, rejected=turns[:1], source="a:1")
    result = next(tokenize_pairs([several], tiny_tokenizer(), ChatTemplate(name="raw", raw=True)))
    assert isinstance(result, Reject)
    assert result.reason == "answer has several messages"


def test_batches_keep_order_and_place_of_rejects() -> None:
    tokenizer = tiny_tokenizer(template=CHATML)
    pairs = [pair(f"Q{n}", "yes", "no", source=f"a:{n}") for n in range(1100)]
    pairs[700] = pair("Q", "\ufdd0")
    results = list(tokenize_pairs(pairs, tokenizer, choose_template(tokenizer, "auto")))
    assert [isinstance(r, Reject) for r in results] == [n == 700 for n in range(1100)]
    assert all(f"Q{n}<" in text_of(tokenizer, results[n].prompt_ids) for n in (0, 511, 512, 1099))


def given(prompt: list[Any], chosen: list[Any], rejected: list[Any]) -> Pair:
    sides = ([{"role": "tokens", "content": "", "ids": ids}] for ids in (prompt, chosen, rejected))
    return Pair(**dict(zip(("prompt", "chosen", "rejected"), sides, strict=True)), source="a:1", dataset="mine")


def test_ids_of_a_row_pass_through() -> None:
    tokenizer = tiny_tokenizer(template=CHATML, bos=True)
    found = tokenized(given([1, 2], [3, 4], [5]), tokenizer)
    assert (found.prompt_ids, found.chosen_ids, found.rejected_ids) == ([1, 2], [3, 4], [5])  # no BOS, no EOS
    assert (found.dataset, found.chosen_context) == ("mine", ())


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (given([1], [10**6], [2]), "token not in the vocabulary"),
        (given([1], [-1], [2]), "token not in the vocabulary"),
        (given([1], [2], ["a"]), "token not in the vocabulary"),
        (given([1], [2], [True]), "token not in the vocabulary"),
        (given([1], [2], [2]), "chosen equals rejected"),
        (given([1], [], [2]), "empty answer"),
        (given([], [1], [2]), "empty prompt"),
        (pair([{"role": "tokens", "content": "", "ids": [1]}]), "wrong type"),
    ],
)
def test_ids_that_cannot_be_used_are_a_reject(row: Pair, reason: str) -> None:
    found = next(tokenize_pairs([row], tiny_tokenizer(), ChatTemplate(name="test", jinja=CHATML)))
    assert isinstance(found, Reject)
    assert found.reason == reason
