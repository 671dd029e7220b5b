"""Chat templates: which one is taken, what it renders, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
from data_templates import DATED, many, says, user
from data_tokenizers import CHATML, tiny_tokenizer

from dpo.data.pair import Reject
from dpo.data.text.template import ChatTemplate, TemplateProblem, choose_template, end_of_turn_span
from dpo.data.text.tokenize import tokenize_pairs
from dpo.errors import ModelError

CONVERSATION = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "Q"},
    {"role": "assistant", "content": "A"},
]


def test_auto_takes_the_tokenizers_own() -> None:
    tokenizer = tiny_tokenizer(template=CHATML)
    template = choose_template(tokenizer, "auto")
    assert template.describe() == "chat template: the tokenizer's own, an answer ends with <|im_end|>"
    assert template.render(tokenizer, CONVERSATION[1:2], header=True) == (
        "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n"
    )


def test_auto_without_one_takes_plain_and_says_so() -> None:
    tokenizer = tiny_tokenizer()
    template = choose_template(tokenizer, "auto")
    assert template.describe() == "chat template: plain (the tokenizer has none), an answer ends with </s>"
    assert template.render(tokenizer, CONVERSATION, header=False) == "S\n\nUser: Q\n\nAssistant: A</s>\n\n"
    assert template.render(tokenizer, CONVERSATION[:2], header=True) == "S\n\nUser: Q\n\nAssistant:"


def test_plain_can_be_asked_for() -> None:
    assert choose_template(tiny_tokenizer(template=CHATML), "plain").describe().startswith("chat template: plain,")


def test_raw_joins_the_texts() -> None:
    tokenizer = tiny_tokenizer(template=CHATML)
    template = choose_template(tokenizer, "raw")
    assert template.render(tokenizer, CONVERSATION, header=True) == "SQA"
    assert "raw" in template.describe()
    assert template.end_of_turn == "</s>"


def test_chatml_needs_its_tokens() -> None:
    assert choose_template(tiny_tokenizer(), "chatml").end_of_turn == "<|im_end|>"
    poor = tiny_tokenizer()
    poor.get_vocab = lambda: {"</s>": 0}
    with pytest.raises(
        ModelError, match=r"needs the tokens <\|im_start\|> and <\|im_end\|>.*model\.chat_template=plain"
    ):
        choose_template(poor, "chatml")


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "my.jinja"
    path.write_text("{% for m in messages %}[{{ m['content'] }}]{% endfor %}")
    tokenizer = tiny_tokenizer(template=CHATML)
    template = choose_template(tokenizer, str(path))
    assert template.render(tokenizer, CONVERSATION, header=False) == "[S][Q][A]"
    assert template.end_of_turn == "</s>"  # the template puts no token after an answer


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{% for %}", "no valid jinja"),
        ("{{ raise_exception('never') }}", "no valid jinja"),
        ("{{ 1 + 'a' }}", "does not work"),
        ("hello", "does not show the messages"),
        ("{{ messages[0]['content'] }}", "does not show the messages"),
    ],
)
def test_a_file_that_is_no_template_is_refused(tmp_path: Path, text: str, part: str) -> None:
    path = tmp_path / "bad.jinja"
    path.write_text(text)
    with pytest.raises(ModelError, match=part):
        choose_template(tiny_tokenizer(), str(path))


def test_an_unknown_name_lists_the_choices() -> None:
    with pytest.raises(ModelError) as error:
        choose_template(tiny_tokenizer(), "chatlm")
    for part in ("model.chat_template=chatlm", "auto", "raw", "plain", "chatml", "jinja file"):
        assert part in str(error.value)


@pytest.mark.parametrize("setting", ["auto", "raw"])
def test_a_tokenizer_without_eos_is_refused_with_the_cure(setting: str) -> None:
    with pytest.raises(ModelError, match=r"model\.eos_token=<text of a token in the vocabulary>"):
        choose_template(tiny_tokenizer(eos=None), setting)


def test_an_eos_that_is_no_token_is_refused() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.get_vocab = lambda: {"a": 0}
    with pytest.raises(ModelError, match=r"'</s>' is not in the tokenizer's vocabulary.*model\.eos_token"):
        choose_template(tokenizer, "auto")


def test_messages_that_a_template_refuses() -> None:
    template = ChatTemplate(name="strict", jinja="{{ raise_exception('no system turns') }}")
    with pytest.raises(TemplateProblem, match="no system turns"):
        template.render(tiny_tokenizer(), CONVERSATION, header=False)


@pytest.mark.parametrize(
    ("tail", "span"),
    [("</s>\n", (0, 4)), ("\n", None), (" <|im_end|>\n</s>\n", (12, 16)), ("", None), ("</s>\n\n", (0, 4))],
)
def test_end_of_turn_span(tail: str, span: tuple[int, int] | None) -> None:
    assert end_of_turn_span(tail, ["<|im_end|>", "</s>", "\n"]) == span  # Gemma has tokens for line breaks


def test_a_date_is_always_the_same_day() -> None:
    tokenizer = tiny_tokenizer(template=DATED)
    template = choose_template(tokenizer, "auto")
    assert "Today: 01 Jan 2025<|im_end|>" in template.render(tokenizer, CONVERSATION, header=False)
    assert "today is always 2025-01-01 in it" in template.describe()
    assert tokenizer.chat_template == DATED  # for generation it stays as it is
    assert "today" not in choose_template(tiny_tokenizer(template=CHATML), "auto").describe()


ASKING = CHATML.replace("assistant\n", "assistant\n{{ '<think>' if think | default(true) else '' }}")


def test_arguments_reach_the_template() -> None:
    tokenizer = tiny_tokenizer(template=ASKING)
    for arguments, end in (({}, "<think>"), ({"think": False}, "assistant\n"), ({"think": True}, "<think>")):
        template = choose_template(tokenizer, "auto", arguments)
        assert template.render(tokenizer, CONVERSATION[:2], header=True).endswith(end)


@pytest.mark.parametrize(
    ("setting", "arguments", "part"),
    [
        (
            "auto",
            {"thinking": 1},
            r"chat_template_arguments\.thinking: the chat template the tokenizer's own has no such",
        ),
        ("raw", {"think": 1}, r"chat_template_arguments\.think: the chat template raw has no such"),
        ("auto", {"messages": []}, r"chat_template_arguments\.messages: messages comes from the data"),
    ],
)
def test_arguments_that_would_be_ignored_are_refused(setting: str, arguments: dict[str, Any], part: str) -> None:
    with pytest.raises(ModelError, match=part):
        choose_template(tiny_tokenizer(template=ASKING), setting, arguments)


def test_a_row_gives_arguments_of_its_own() -> None:
    tokenizer = tiny_tokenizer(template="{{ mood }}" + CHATML)
    given = (None, {"mood": "glad</s>"})
    pairs = [many([user("Q")], [says("A")], template_arguments=arguments) for arguments in given]
    template = choose_template(tokenizer, "auto", {"mood": "calm"})
    found = list(tokenize_pairs(pairs, tokenizer, template))
    prompts = [tokenizer.decode(one.prompt_ids).partition("<|im_start|>")[0] for one in found]
    assert prompts == ["calm", "glad</s>"]
    assert tokenizer.eos_token_id not in found[1].prompt_ids
    assert len({pair.id for pair in pairs}) == len({pair.prompt_hash for pair in pairs}) == 2


def test_a_row_cannot_give_what_comes_from_other_columns() -> None:
    tokenizer = tiny_tokenizer(template=ASKING)
    pair = many([user("Q")], [says("A")], template_arguments={"messages": []})
    found = next(tokenize_pairs([pair], tokenizer, choose_template(tokenizer, "auto")))
    assert isinstance(found, Reject) and "messages, which come from other columns" in found.detail


def test_a_template_of_its_own_for_tools() -> None:
    both = {"default": CHATML, "tool_use": "{% for t in tools %}{{ t.function.name }}{% endfor %}" + CHATML}
    tokenizer = tiny_tokenizer(template=both)
    template = choose_template(tokenizer, "auto", {})
    tools = [{"type": "function", "function": {"name": "add"}}]
    assert template.render(tokenizer, CONVERSATION, header=False, tools=tools).startswith("add<|im_start|>")
    assert template.render(tokenizer, CONVERSATION, header=False).startswith("<|im_start|>")


@pytest.mark.parametrize(("header", "said"), [("<think>", "generation reads '<think>' before an answer"), ("", None)])
def test_what_generation_reads_and_finished_answers_lack_is_said(header: str, said: str | None) -> None:
    tokenizer = tiny_tokenizer(template=CHATML.replace("assistant\n", f"assistant\n{header}"))
    described = choose_template(tokenizer, "auto").describe()
    assert said in described if said else "generation" not in described
