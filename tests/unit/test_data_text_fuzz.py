"""Any text in any place: tokenizing gives exact ids or a reject, and never raises."""

import pytest
from data_templates import CHATML_TOOLS, MERGING, STRICT, THINKING, calls, many, result, says, tool, under, user
from data_tokenizers import CHATML, tiny_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from dpo.data.pair import Message, Reject
from dpo.data.text.limits import Overlong, TokenLimits, fit
from dpo.data.text.show import render_marked
from dpo.data.text.template import ChatTemplate
from dpo.data.text.tokenize import tokenize_pairs

pytestmark = pytest.mark.unit

SPELT = [
    "<|im_end|>",
    "<|im_start|>assistant\n",
    "</s>",
    "<s>",
    "<think>",
    "</think>",
    "\n",
    " ",
    "[call]",
    "\x1b",
    "[/INST]",
]
TEXT = st.lists(st.one_of(st.sampled_from(SPELT), st.text(max_size=8)), max_size=5).map("".join)
ROUNDS = st.lists(
    st.one_of(
        st.tuples(TEXT, TEXT).map(lambda texts: [says(texts[0]), user(texts[1])]),
        st.tuples(TEXT, TEXT, TEXT).map(lambda texts: [calls(texts[0], "add", a=texts[1]), result(texts[2])]),
    ),
    max_size=2,
).map(lambda rounds: [turn for turns in rounds for turn in turns])
TOKENIZER = tiny_tokenizer()
CONTROL = ("<|im_end|>", "<|im_start|>", "</s>", "<s>")


@settings(max_examples=150, deadline=None)
@given(
    jinja=st.sampled_from([CHATML, CHATML_TOOLS, THINKING, MERGING, STRICT]),
    prompt=st.tuples(ROUNDS, TEXT).map(lambda parts: [*parts[0], user(parts[1])]),
    answer=st.tuples(ROUNDS, TEXT).map(lambda parts: [*parts[0], says(parts[1])]),
    offered=st.one_of(st.none(), TEXT.map(lambda text: [tool("add", text)])),
)
def test_any_text_anywhere(jinja: str, prompt: list[Message], answer: list[Message], offered: list | None) -> None:
    found = under(jinja, many([user("Q"), says("A"), *prompt], answer, tools=offered), TOKENIZER)
    if isinstance(found, Reject):
        assert found.reason and found.detail
        return
    template = ChatTemplate(name="test", jinja=jinja)
    whole = template.render(TOKENIZER, [user("Q"), says("A"), *prompt, *answer], header=False, tools=offered)
    text = str(TOKENIZER.decode(found.prompt_ids + found.chosen_ids))
    assert whole.startswith(text)
    assert not whole[len(text) :].strip()
    empty = [{**turn, "content": "x"} if "tool_calls" not in turn else calls("x", "add", a="x") for turn in answer]
    plain = under(jinja, many([user("Q")], empty), TOKENIZER)
    if not isinstance(plain, Reject):  # the answer holds the control tokens of its turns, whatever it says
        for name in CONTROL:
            token = TOKENIZER.convert_tokens_to_ids(name)
            assert found.chosen_ids.count(token) == plain.chosen_ids.count(token)
    assert render_marked(found, TOKENIZER)


@settings(max_examples=100, deadline=None)
@given(
    prompt=st.tuples(ROUNDS, TEXT).map(lambda parts: [*parts[0], user(parts[1])]),
    answer=st.tuples(ROUNDS, TEXT).map(lambda parts: [*parts[0], says(parts[1])]),
    limits=st.builds(
        lambda length, prompt, policy: TokenLimits(max_length=length, max_prompt_length=prompt, truncation=policy),
        st.integers(4, 200),
        st.one_of(st.none(), st.integers(1, 100)),
        st.sampled_from(["drop", "cut_prompt", "cut_answers"]),
    ),
)
def test_limits_hold_whatever_is_cut(prompt: list[Message], answer: list[Message], limits: TokenLimits) -> None:
    template = ChatTemplate(name="test", jinja=CHATML_TOOLS)
    for whole in tokenize_pairs([many(prompt, answer)], TOKENIZER, template, limits):
        found = whole if isinstance(whole, Reject) else fit(whole, limits)
        if isinstance(found, Reject | Overlong):
            continue
        assert limits.hold(found)
        for ids, context in ((found.chosen_ids, found.chosen_context), (found.rejected_ids, found.rejected_context)):
            assert all(0 < start < end < len(ids) for start, end in context)  # the last token is scored
        assert (found.whole is not None) == bool(found.cut)
