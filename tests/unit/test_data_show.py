"""One pair as people see it: what is scored is marked, and nothing steers a terminal."""

import pytest
from data_templates import AGENT, CHATML_TOOLS, ids_under, many, says, user
from data_tokenizers import blank_tokenizer, tiny_tokenizer

from dpo.data.pair import TokenizedPair
from dpo.data.text.show import render_marked

pytestmark = pytest.mark.unit


def test_scored_stretches_of_both_answers_are_marked() -> None:
    tokenizer = tiny_tokenizer()
    found = ids_under(CHATML_TOOLS, many([user("1+2?")], AGENT), tokenizer)
    count = len(found.chosen_ids)
    (start, end) = found.chosen_context[0]
    assert render_marked(found, tokenizer) == (
        f"── prompt, {len(found.prompt_ids)} tokens\n"
        "<|im_start|>user\n1+2?<|im_end|>\n<|im_start|>assistant\n\n"
        f"── chosen, {count - (end - start)} of {count} tokens scored\n"
        '⟦Let me see.[call]add {"a": 1, "b": 2}[/call]<|im_end|>⟧\n'
        "<|im_start|>tool\nthree<|im_end|>\n<|im_start|>assistant\n⟦It is 3.<|im_end|>⟧\n"
        f"── rejected, {len(found.rejected_ids)} of {len(found.rejected_ids)} tokens scored\n"
        "⟦no<|im_end|>⟧"
    )


def test_blanks_between_words_are_kept_at_the_border() -> None:
    tokenizer = blank_tokenizer()
    ids = tokenizer.convert_tokens_to_ids
    found = TokenizedPair(
        prompt_ids=ids(["▁", "a"]),
        chosen_ids=ids(["b", "▁", "c"]),
        rejected_ids=[],
        chosen_context=((0, 1),),
        source="a:1",
        id="x",
    )
    assert render_marked(found, tokenizer).endswith("scored\nb⟦ c⟧")


def test_what_is_cut_is_said() -> None:
    tokenizer = tiny_tokenizer()
    found = TokenizedPair(
        prompt_ids=[1], chosen_ids=[2], rejected_ids=[3], cut=("prompt", "chosen"), source="a", id="x"
    )
    shown = render_marked(found, tokenizer)
    assert "── prompt, 1 tokens, its start cut" in shown
    assert "── chosen, 1 of 1 tokens scored, cut" in shown
    assert "── rejected, 1 of 1 tokens scored\n" in shown


def test_long_texts_lose_their_middle_and_control_characters_are_escaped() -> None:
    tokenizer = tiny_tokenizer()
    found = ids_under(CHATML_TOOLS, many([user("x" * 500 + "\x1b[2J")], [says("a\u202eb\r")]), tokenizer)
    shown = render_marked(found, tokenizer, most=100)
    assert "xx … 4" in shown
    assert "more characters …" in shown
    assert "\\x1b[2J" in shown
    assert "⟦a\\u202eb\\r<|im_end|>⟧" in shown
    assert "\x1b" not in shown
