"""Which tokens of an answer are scored, under templates of many styles: the assistant's, each turn with its end, and
nothing of what tools and users say in between."""

from typing import Any

import pytest
from data_templates import (
    AGENT,
    CHATML_TOOLS,
    DATED,
    MARKED,
    MERGING,
    OPENING,
    STRICT,
    THINKING,
    calls,
    ids_under,
    many,
    result,
    says,
    scored,
    stretches,
    tool,
    under,
    user,
)
from data_tokenizers import CHATML, tiny_tokenizer

from dpo.data.batch import PromptGroup
from dpo.data.collate import collate
from dpo.data.pair import Message, Pair, Reject, TokenizedPair
from dpo.data.text.template import ChatTemplate
from dpo.data.text.tokenize import tokenize_pairs

pytestmark = pytest.mark.unit

ONE = [user("Q")]
SYSTEM: Message = {"role": "system", "content": "Be brief."}


def test_tool_turns_inside_an_answer_are_context() -> None:
    tokenizer = tiny_tokenizer()
    found = ids_under(CHATML_TOOLS, many([user("1+2?")], AGENT), tokenizer)
    assert stretches(found.chosen_ids, found.chosen_context, tokenizer) == [
        ('Let me see.[call]add {"a": 1, "b": 2}[/call]<|im_end|>', True),
        ("\n<|im_start|>tool\nthree<|im_end|>\n<|im_start|>assistant\n", False),
        ("It is 3.<|im_end|>", True),
    ]
    assert stretches(found.rejected_ids, found.rejected_context, tokenizer) == [("no<|im_end|>", True)]


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_what_is_scored_reaches_the_batch(layout: str) -> None:
    tokenizer = tiny_tokenizer()
    found = ids_under(CHATML_TOOLS, many([user("1+2?")], AGENT), tokenizer)
    group = PromptGroup(
        prompt_ids=found.prompt_ids,
        responses=[found.chosen_ids, found.rejected_ids],
        contexts=[found.chosen_context, found.rejected_context],
        pairs=[(0, 1)],
        pair_ids=["x"],
        sources=["a:1"],
    )
    batch = collate([group], layout)
    texts = [tokenizer.decode(batch.targets[batch.response == number]) for number in (0, 1)]
    assert texts == ["".join(scored(found, tokenizer)), "no<|im_end|>"]
    assert batch.tokens.tolist() == [len(batch.targets) - len(found.rejected_ids), len(found.rejected_ids)]


def test_a_call_without_text_and_two_results_in_a_row() -> None:
    tokenizer = tiny_tokenizer()
    answer = [calls("", "add", a=1), result("3"), result("4"), calls("", "mul", b=[2]), result("8"), says("8")]
    found = ids_under(CHATML_TOOLS, many([user("Q")], answer), tokenizer)
    assert scored(found, tokenizer) == [
        '[call]add {"a": 1}[/call]<|im_end|>',
        '[call]mul {"b": [2]}[/call]<|im_end|>',
        "8<|im_end|>",
    ]


def test_two_turns_of_the_assistant_in_a_row() -> None:
    tokenizer = tiny_tokenizer()
    found = ids_under(CHATML_TOOLS, many([user("Q")], [says("wait"), says("he")]), tokenizer)
    assert scored(found, tokenizer) == ["wait<|im_end|>", "he<|im_end|>"]


def test_a_user_turn_inside_an_answer_is_context() -> None:
    tokenizer = tiny_tokenizer(bos=True)
    found = ids_under(MERGING, many([SYSTEM, user("Q")], [says("one"), user("more"), says("two")]), tokenizer)
    assert tokenizer.decode(found.prompt_ids) == "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nQ [/INST]"
    assert stretches(found.chosen_ids, found.chosen_context, tokenizer) == [
        (" one </s>", True),
        ("<s>[INST] more [/INST]", False),
        (" two </s>", True),
    ]


TALKS = [
    ("chatml", CHATML, [SYSTEM, user("Q"), says("A"), user("R")], [says("one"), user("more"), says("two")]),
    ("tools", CHATML_TOOLS, [user("Q"), *AGENT, user("R")], [*AGENT[:2], *AGENT]),
    ("merging", MERGING, [SYSTEM, user("Q"), says("A"), user("R")], [says(" one"), user("more"), says("two ")]),
    ("strict", STRICT, [user(" Q"), says("A\n"), user("R ")], [says(" one"), user(" more"), says("two\n")]),
    ("dated", DATED, [user("Q")], [says("one"), user("more"), says("two")]),
    ("thinking", THINKING, [user("Q"), says("<think>a</think>A"), user("R")], [*AGENT[:2], says("<think>b</think>B")]),
    ("marked", MARKED, [SYSTEM, user("Q")], [*AGENT, user("more"), says("two")]),
    ("ends in a tool turn", CHATML_TOOLS, [user("Q"), *AGENT[:2]], AGENT[2:]),
]


@pytest.mark.parametrize(("jinja", "prompt", "answer"), [talk[1:] for talk in TALKS], ids=[talk[0] for talk in TALKS])
@pytest.mark.parametrize("bos", [False, True])
def test_what_holds_under_every_template(jinja: str, prompt: list[Message], answer: list[Message], bos: bool) -> None:
    tokenizer = tiny_tokenizer(bos=bos)
    template = ChatTemplate(name="test", jinja=jinja)
    found = ids_under(jinja, many(prompt, answer), tokenizer)
    ends = [tokenizer.convert_tokens_to_ids(end) for end in ("<|im_end|>", "</s>")]
    text = str(tokenizer.decode(found.prompt_ids + found.chosen_ids))
    generation = template.render(tokenizer, prompt, header=True)
    assert text.removeprefix("<s>") == template.render(tokenizer, prompt + answer, header=False).rstrip().removeprefix(
        "<s>"
    )
    assert str(tokenizer.decode(found.prompt_ids)).removeprefix("<s>") == generation.removeprefix("<s>")
    if bos and jinja is not MERGING:  # which begins every question with BOS
        assert (found.prompt_ids + found.chosen_ids).count(tokenizer.bos_token_id) == 1
    mine = scored(found, tokenizer)
    spoken = [turn for turn in answer if turn["role"] == "assistant"]
    assert len(mine) == len(spoken)
    for part, turn in zip(mine, spoken, strict=True):
        assert turn["content"].rpartition("</think>")[2].strip() in part
        assert "<|im_start|>" not in part
    spans = [*found.chosen_context, (len(found.chosen_ids), 0)]
    assert all(found.chosen_ids[start - 1] in ends for start, _ in spans)  # the end of every turn is scored
    for said in (turn["content"] for turn in answer if turn["role"] != "assistant"):
        assert not any(said in part for part in mine)


@pytest.mark.parametrize("answer", [[says("A")], AGENT, [*AGENT, user("more"), *AGENT]])
def test_the_mask_is_the_one_of_a_template_that_marks_what_is_generated(answer: list[Message]) -> None:
    tokenizer = tiny_tokenizer(template=MARKED)
    prompt = [SYSTEM, user("Q")]
    found = ids_under(MARKED, many(prompt, answer), tokenizer)
    theirs = tokenizer.apply_chat_template(
        prompt + answer, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    mine = found.prompt_ids + found.chosen_ids
    assert theirs["input_ids"][: len(mine)] == mine
    mask = [1] * len(found.chosen_ids)
    for start, end in found.chosen_context:
        mask[start:end] = [0] * (end - start)
    assert theirs["assistant_masks"] == [0] * len(found.prompt_ids) + mask + [0]  # the line break after the last end


ENDS = [
    # Phi-3: EOS behind the end of the last turn. gpt-oss: another end for the last turn than for those before it.
    # GLM: no end at all, the model stops by opening the next turn. The last: two tokens close every turn.
    ("<|im_end|>\n{{ '</s>' if loop.last else '' }}", ["one<|im_end|>", "two<|im_end|>\n</s>"]),
    ("{{ '</s>' if loop.last else '<|im_end|>' }}\n", ["one<|im_end|>", "two</s>"]),
    ("{{ '\n' }}", ["one\n<|im_start|>", "two</s>"]),
    ("<s>\n<|im_end|>\n", ["one<s>\n<|im_end|>", "two<s>\n<|im_end|>"]),
]


@pytest.mark.parametrize(("end", "expected"), ENDS)
@pytest.mark.parametrize("earlier", [[], [says("one"), user("more")]])  # the same was said before
def test_how_turns_end(end: str, expected: list[str], earlier: list[Message]) -> None:
    tokenizer = tiny_tokenizer()
    jinja = CHATML.replace(
        "<|im_end|>\n", f"{{% if m.role == 'assistant' %}}{end}{{% else %}}<|im_end|>\n{{% endif %}}"
    )
    prompt = [user("more"), *earlier]
    found = ids_under(jinja, many(prompt, [says("one"), user("more"), says("two")]), tokenizer)
    assert scored(found, tokenizer) == expected


@pytest.mark.parametrize("header", ["<think>\n", "<think>\n\n</think>\n\n"])
def test_a_thought_that_the_generation_header_opens(header: str) -> None:
    """As Qwen3.5 and Nemotron do; without thinking the header holds an empty thought."""
    tokenizer = tiny_tokenizer()
    found = ids_under(OPENING.replace("HEADER", header), many(ONE, [says("<think>hm</think>yes")]), tokenizer)
    assert str(tokenizer.decode(found.prompt_ids)).endswith("<|im_start|>assistant\n<think>\n")
    assert scored(found, tokenizer) == ["hm\n</think>\n\nyes<|im_end|>"]
    assert tokenizer.decode(found.rejected_ids) == "\n</think>\n\nno<|im_end|>"


def test_a_header_that_earlier_turns_lack() -> None:
    """The answer's first turn is not the last one of the conversation, and is rendered without the thought."""
    tokenizer = tiny_tokenizer()
    jinja = THINKING.replace("assistant\n{% endif %}", "assistant\n<think>\n\n</think>\n\n{% endif %}")
    found = ids_under(jinja, many(ONE, [says("one"), user("more"), says("two")]), tokenizer)
    assert str(tokenizer.decode(found.prompt_ids)).endswith("assistant\n")
    assert scored(found, tokenizer) == ["one<|im_end|>", "two<|im_end|>"]


def test_a_thought_is_scored_where_the_template_shows_it() -> None:
    tokenizer = tiny_tokenizer()
    answer = [calls("", "add", a=1) | {"reasoning_content": "hm"}, result("3"), says("<think>\nb\n</think>\n\nB")]
    found = ids_under(THINKING, many([user("Q")], answer), tokenizer)
    assert scored(found, tokenizer) == [
        '<think>\nhm\n</think>\n\n[call]add {"a": 1}[/call]<|im_end|>',
        "<think>\nb\n</think>\n\nB<|im_end|>",
    ]


def test_an_empty_thought_is_only_in_the_last_turn() -> None:
    tokenizer = tiny_tokenizer()
    found = ids_under(THINKING, many([user("Q")], [says("wait"), result("3"), says("B")]), tokenizer)
    assert scored(found, tokenizer) == ["wait<|im_end|>", "<think>\n\n</think>\n\nB<|im_end|>"]


def test_thoughts_of_earlier_turns_leave_the_prompt_as_in_generation() -> None:
    tokenizer = tiny_tokenizer()
    found = ids_under(THINKING, many([user("Q"), says("<think>hm</think>A"), user("R")], [says("B")]), tokenizer)
    assert "assistant\nA<|im_end|>" in str(tokenizer.decode(found.prompt_ids))


CANNOT = [
    (  # the question after it takes the thought away
        THINKING,
        many(ONE, [says("<think>a</think>A"), user("R"), says("B")]),
        "template changes the answer",
    ),
    (THINKING, many(ONE, [says("x<think>a</think>A")]), "template changes the answer"),
    (CHATML, many(ONE, [calls("A", "add", a=1)]), "template changes the answer"),
    (
        CHATML_TOOLS.replace("| tojson", "| length"),
        many(ONE, [calls("", "f", a="deep")]),
        "template changes the answer",
    ),
    (CHATML, many([user("Q"), calls("", "add"), result("3")], [says("A")]), "template changes the prompt"),
    (
        STRICT.replace("m.content", "messages[-1].content"),
        many([user("x"), says("A"), user("y")], [says("B")]),
        "prompt",
    ),
    (CHATML, many(ONE, [says("A")], tools=[tool("add")]), "template does not show the tools"),
    (STRICT, many([SYSTEM, *ONE], [says("A")]), "chat template refuses the messages"),
    (MERGING, many([*ONE, *ONE], [says("A")]), "chat template refuses the messages"),
    (
        "{% for m in messages %}[{{ m.content }}]{% endfor %}",
        many(ONE, [says("A"), user("R"), says("B")]),
        "template ends no turn with a token",
    ),
    (  # the question is rendered differently once a tool has answered
        CHATML.replace("{{ m['content'] }}", "{{ m['content'] }}{{ messages | length > 2 }}"),
        many(ONE, AGENT[1:]),
        "template does not keep the prompt as a prefix",
    ),
    (CHATML, many(ONE, [says("A", scored=False)]), "answer without a scored turn"),
]


@pytest.mark.parametrize(("jinja", "pair", "reason"), CANNOT)
def test_what_cannot_be_shown_exactly_is_a_reject(jinja: str, pair: Pair, reason: str) -> None:
    found = under(jinja, pair, tiny_tokenizer())
    assert isinstance(found, Reject), found
    assert reason in found.reason
    assert found.detail


def test_tools_are_given_to_the_template() -> None:
    tokenizer = tiny_tokenizer()
    found = ids_under(CHATML_TOOLS, many(ONE, AGENT, tools=[tool("add", "adds")]), tokenizer)
    assert str(tokenizer.decode(found.prompt_ids)).startswith('<|im_start|>tools\n[{"type": "function"')


def test_texts_may_stand_as_json_and_trimmed() -> None:
    quoted = CHATML_TOOLS.replace("{{ m.content }}", "{{ m.content | tojson if m.role == 'tool' else m.content }}")
    tokenizer = tiny_tokenizer()
    answer = [calls("", "say", words='a "b"\nc'), result('{"x": "y\\n"}\n'), says("A")]
    assert len(scored(ids_under(quoted, many(ONE, answer), tokenizer), tokenizer)) == 2


def test_a_turn_without_weight_is_context() -> None:
    tokenizer = tiny_tokenizer()
    answer = [says("one", scored=False), user("more"), says("two")]
    found = ids_under(CHATML, many(ONE, answer), tokenizer)
    assert scored(found, tokenizer) == ["two<|im_end|>"]
    assert len(found.chosen_context) == 1  # the turn and what follows it, in one


@pytest.mark.parametrize("side", ["chosen", "rejected"])
def test_an_unpaired_row_has_one_answer(side: str) -> None:
    tokenizer = tiny_tokenizer()
    answers: dict[str, Any] = {"chosen": [], "rejected": [], side: [says("he")]}
    found = ids_under(CHATML, Pair(prompt=ONE, source="a:1", **answers), tokenizer)
    ids = {"chosen": found.chosen_ids, "rejected": found.rejected_ids}
    assert tokenizer.decode(ids.pop(side)) == "he<|im_end|>"
    assert [*ids.values()] == [[]]


def test_pairs_of_one_prompt_are_rendered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, count = tiny_tokenizer(), 0
    render = ChatTemplate.render

    def counting(*args: Any, **kwargs: Any) -> str:
        nonlocal count
        count += 1
        return render(*args, **kwargs)

    monkeypatch.setattr(ChatTemplate, "render", counting)
    answers = [[says(text)] for text in ("one", "two", "three")]
    pairs = [
        Pair(prompt=[user(question)], chosen=chosen, rejected=rejected, source="a:1")
        for question in ("Q", "R")
        for chosen, rejected in zip(answers, [*answers[1:], answers[0]], strict=True)
    ]
    found = list(tokenize_pairs(pairs, tokenizer, ChatTemplate(name="test", jinja=CHATML)))
    assert count == 2 * (1 + 3)  # of each prompt: itself and its answers
    assert all(isinstance(one, TokenizedPair) for one in found)
    assert [tokenizer.decode(one.chosen_ids) for one in found if isinstance(one, TokenizedPair)] == [
        f"{text}<|im_end|>" for text in ("one", "two", "three") * 2
    ]
