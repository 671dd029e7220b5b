"""Pairs that are too long: dropped, or cut at the end of the answers or the start of the prompt, never in silence."""

from typing import Any

import pytest
from data_templates import AGENT, CHATML_TOOLS, DATED, MERGING, many, says, tool, user
from data_tokenizers import CHATML, tiny_tokenizer

from dpo.data.pair import Message, Pair, TokenizedPair
from dpo.data.text.limits import Overlong, TokenLimits, fit, length
from dpo.data.text.template import ChatTemplate
from dpo.data.text.tokenize import tokenize_pairs

pytestmark = pytest.mark.unit


def ids(prompt: int, chosen: int, rejected: int, **fields: Any) -> TokenizedPair:
    """A pair of these lengths whose answers differ in their first token."""
    return TokenizedPair(
        prompt_ids=[1] * prompt,
        chosen_ids=[*range(10, 10 + chosen)],
        rejected_ids=[*range(50, 50 + rejected)],
        source="a:1",
        id="x",
        **fields,
    )


def test_a_pair_that_fits_is_left_alone() -> None:
    one = ids(5, 3, 5)
    assert length(one) == 10
    assert fit(one, TokenLimits(max_length=10)) is one


def test_drop_leaves_out_an_overlong_pair_without_an_error() -> None:
    result = fit(ids(5, 3, 6), TokenLimits(max_length=10))
    assert isinstance(result, Overlong)
    assert (result.reject.reason, result.reject.source) == ("pair too long", "a:1")
    assert result.reject.detail == "11 tokens with a prompt of 5, data.max_length is 10"


def test_cut_answers_cuts_only_the_ends_of_answers_and_adds_no_eos() -> None:
    result = fit(ids(5, 3, 9, reference=(-1.0, -2.0)), TokenLimits(max_length=10, truncation="cut_answers"))
    assert isinstance(result, TokenizedPair)
    assert result.prompt_ids == [1] * 5
    assert result.chosen_ids == [10, 11, 12]
    assert result.rejected_ids == [50, 51, 52, 53, 54]  # the beginning, and nothing after it
    assert (result.cut, result.whole, result.reference) == (("rejected",), (5, 3, 9), None)
    assert length(result) == 14  # what it would take


def test_both_answers_cut() -> None:
    result = fit(ids(5, 8, 9), TokenLimits(max_length=10, truncation="cut_answers"))
    assert isinstance(result, TokenizedPair)
    assert result.cut == ("chosen", "rejected")


def test_answers_that_become_equal_by_cutting_are_dropped() -> None:
    one = TokenizedPair(prompt_ids=[1], chosen_ids=[5, 6, 7], rejected_ids=[5, 6, 8], source="a:1", id="x")
    result = fit(one, TokenLimits(max_length=3, truncation="cut_answers"))
    assert isinstance(result, Overlong)
    assert result.reject.reason == "answers equal after cutting"


@pytest.mark.parametrize(
    ("room", "context"),
    [(1, ()), (2, ()), (3, None), (4, None), (5, ((2, 4),)), (6, ((2, 4),)), (7, ((2, 4),))],
)
def test_a_cut_keeps_whole_turns_of_context_and_never_ends_in_one(room: int, context: Any) -> None:
    limits = TokenLimits(max_length=1 + room, truncation="cut_answers")
    result = fit(ids(1, 8, 1, chosen_context=((2, 4),)), limits)
    if context is None:
        assert isinstance(result, Overlong)
        assert result.reject.reason == "answer cut within a tool or user turn"
    else:
        assert isinstance(result, TokenizedPair)
        assert (result.chosen_context, len(result.chosen_ids)) == (context, room)


def test_an_answer_that_fits_may_end_in_context() -> None:
    result = fit(ids(1, 4, 8, chosen_context=((2, 4),)), TokenLimits(max_length=5, truncation="cut_answers"))
    assert isinstance(result, TokenizedPair)
    assert (result.chosen_context, result.cut) == (((2, 4),), ("rejected",))


def test_a_prompt_that_leaves_no_room_is_overlong_even_when_cutting() -> None:
    assert isinstance(fit(ids(10, 3, 4), TokenLimits(max_length=10, truncation="cut_answers")), Overlong)


@pytest.mark.parametrize("truncation", ["drop", "cut_prompt", "cut_answers"])
def test_a_prompt_over_its_own_limit_is_dropped(truncation: str) -> None:
    result = fit(ids(6, 3, 3), TokenLimits(max_length=20, max_prompt_length=5, truncation=truncation))
    assert isinstance(result, Overlong)
    assert result.reject.reason == "prompt too long"
    assert result.reject.detail == "6 tokens, data.max_prompt_length is 5"
    assert isinstance(fit(ids(5, 3, 3), TokenLimits(max_length=20, max_prompt_length=5)), TokenizedPair)


SYSTEM: Message = {"role": "system", "content": "Be brief."}
TALK = [user("one?"), says("One."), user("two?"), says("Two."), user("three?")]


def shortened(jinja: str, pair: Pair, **limits: int) -> tuple[str, TokenizedPair]:
    """(the prompt as text, the pair) under truncation=cut_prompt."""
    tokenizer = tiny_tokenizer()
    both = TokenLimits(truncation="cut_prompt", **{"max_length": 10**6, **limits})
    found = next(tokenize_pairs([pair], tokenizer, ChatTemplate(name="test", jinja=jinja, raw=not jinja), both))
    assert isinstance(found, TokenizedPair), found
    return str(tokenizer.decode(found.prompt_ids)), found


def rendered(jinja: str, prompt: list[Message], tools: Any = None) -> str:
    return ChatTemplate(name="test", jinja=jinja).render(tiny_tokenizer(), prompt, header=True, tools=tools)


@pytest.mark.parametrize("jinja", [CHATML, MERGING, DATED])
@pytest.mark.parametrize("kept", [1, 3, 5])
def test_a_cut_prompt_is_a_conversation_of_its_last_turns(jinja: str, kept: int) -> None:
    """As few turns go as fit, the system turn stays, wherever the template puts it."""
    pair = many([SYSTEM, *TALK], [says("yes")], reference=(-1.0, -2.0))
    whole = shortened(jinja, pair)[1]
    expected = rendered(jinja, [SYSTEM, *TALK[-kept:]])
    room = len(tiny_tokenizer()(expected)["input_ids"])
    for limits in ({"max_prompt_length": room}, {"max_length": room + len(whole.chosen_ids)}):
        text, found = shortened(jinja, pair, **limits)
        assert text == expected
        assert (found.chosen_ids, found.rejected_ids, found.id) == (whole.chosen_ids, whole.rejected_ids, pair.id)
        if kept == 5:
            assert (found.cut, found.whole, found.reference) == ((), None, (-1.0, -2.0))
        else:
            assert (found.cut, found.reference) == (("prompt",), None)
            assert found.whole == tuple(map(len, (whole.prompt_ids, whole.chosen_ids, whole.rejected_ids)))
        assert fit(found, TokenLimits(truncation="cut_prompt", **{"max_length": 10**6, **limits})) is found


def test_tools_stay_and_calls_are_not_parted_from_their_question() -> None:
    prompt, tools = [user("one?"), *AGENT, user("two?"), *AGENT[:2]], [tool("add")]
    expected = rendered(CHATML_TOOLS, prompt[4:], tools)
    pair = many(prompt, [says("yes")], tools=tools)
    text, _ = shortened(CHATML_TOOLS, pair, max_prompt_length=len(tiny_tokenizer()(expected)["input_ids"]))
    assert text == expected


def test_a_last_turn_that_is_too_long_is_dropped_and_counted() -> None:
    _, found = shortened(CHATML, many([SYSTEM, *TALK], [says("yes")]), max_prompt_length=20)
    result = fit(found, TokenLimits(max_length=10**6, max_prompt_length=20, truncation="cut_prompt"))
    assert isinstance(result, Overlong)
    assert result.reject.reason == "prompt too long"


def raw(text: str, **marks: bool) -> Pair:
    return many([{"role": "raw", "content": text, **marks}], [says("yes")])


def test_a_raw_prompt_is_cut_at_a_line() -> None:
    assert shortened(CHATML, raw("one\ntwo\n\nthree"), max_prompt_length=9)[0] == "\nthree"
    assert shortened(CHATML, raw("one\ntwo\n\nthree"), max_prompt_length=10)[0] == "two\n\nthree"
    assert shortened("", many(TALK, [says("yes")]), max_prompt_length=7)[0] == "three?"


@pytest.mark.parametrize("text", ["one two three", "one two three\n"])
def test_a_raw_prompt_without_a_line_to_cut_at_is_left(text: str) -> None:
    assert shortened(CHATML, raw(text), max_prompt_length=4)[1].cut == ()


def test_a_prompt_that_was_rendered_before_is_never_cut() -> None:
    text = "one\n<|im_start|>two\nthree"
    assert shortened(CHATML, raw(text), max_prompt_length=9)[0] == "three"
    assert shortened(CHATML, raw(text, rendered=True), max_prompt_length=9)[1].cut == ()


def test_ids_of_a_row_are_left() -> None:
    sides = {
        name: [{"role": "tokens", "content": "", "ids": [7, n]}]
        for n, name in enumerate(("prompt", "chosen", "rejected"))
    }
    assert shortened(CHATML, Pair(source="a:1", **sides), max_prompt_length=1)[1].prompt_ids == [7, 0]
