"""Features of a pair's text: formatting, refusals, languages, marks, whatever text there is."""
# ruff: noqa: RUF001  letters that look like others are what is tested

import subprocess
import sys
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpo.data.findings.features import DTYPES, Features, features
from dpo.data.findings.languages import LANGUAGES, language_of
from dpo.data.findings.marks import Mark, marks_of
from dpo.data.findings.refusals import is_refusal
from dpo.data.findings.words import words_of
from dpo.data.pair import Pair

pytestmark = pytest.mark.unit


def pair(chosen: str, rejected: str, prompt: str = "What is it?") -> Pair:
    return Pair(
        prompt=[{"role": "user", "content": prompt}],
        chosen=[{"role": "assistant", "content": chosen}],
        rejected=[{"role": "assistant", "content": rejected}],
        source="a:1",
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("It is  blue.", "It is blue."),
        ("It is blue.", "it is Blue"),
        ("It is blue.\nAnd red.", "It is blue. And red."),
        ("**It** is _blue_.", "It is blue."),
        ("# Colours\n- blue\n- red", "Colours\n* blue\n* red"),
        ("You’re welcome!", "You're welcome."),
        ("“Blue”, he said — now.", '"Blue," he said: now.'),
        ("pd.read\\_csv", "pd.read_csv"),
        ("是的。", "是的！"),
    ],
)
def test_formatting_is_not_a_difference(one: str, other: str) -> None:
    found = features(pair(one, other))
    assert found.formatting_only and found.chosen_key == found.rejected_key and found.common_words == 1.0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("It is blue.", "It is red."),
        ("It is -1.", "It is 1."),
        ("It is 1.5.", "It is 15."),
        ("x = a[1:]", "x = a[:1]"),
        ("5! = 120", "5 = 120"),
        ("if a != b", "if a = b"),
        ("```\nx\n```", "```\nX\n```"),
        ("costs $5", "costs 5"),
        ("2 > 1", "2 < 1"),
    ],
)
def test_content_is_a_difference(one: str, other: str) -> None:
    assert not features(pair(one, other)).formatting_only


REFUSALS = [
    "I'm sorry, but I can't help with that.",
    "I’m really sorry, I am unable to do this.",
    "Sorry, I won't do that.",
    "I cannot fulfil this request.",
    "No, I can't tell you that.",
    "Unfortunately, I am not able to give out addresses.",
    "I apologize, but I cannot answer such questions.",
    "As an AI language model, I cannot give medical advice.",
    "I must decline.",
    "I don't think it's a good idea to do that.",
    "Es tut mir leid, aber dabei kann ich nicht helfen.",
    "Je suis désolé, mais je ne peux pas vous aider.",
    "Lo siento, pero no puedo ayudarte con eso.",
    "Mi dispiace, ma non posso aiutarti.",
    "Desculpe, mas não posso ajudar com isso.",
    "对不起，我无法回答这个问题。",
    "申し訳ありませんが、お手伝いできません。",
    "죄송하지만 도와드릴 수 없습니다.",
    "Извините, но я не могу помочь.",
]
ANSWERS = [
    "I'm sorry to hear that. You can take a rest.",
    "I'm sorry, I can't imagine how hard that was for you.",
    "You can't do that in Python.",
    "I can help you with that!",
    "As an AI, I love this question.",
    "As an AI, I cannot taste, but vanilla is said to be sweet.",
    "Unfortunately, the shop is closed.",
    "I can't wait to tell you!",
    "对不起，我来晚了。",
    "我无法直接访问，但我可以这样说。",
    "",
    "No.",
]


@pytest.mark.parametrize("text", REFUSALS)
def test_refusals_are_known(text: str) -> None:
    assert is_refusal(text)


@pytest.mark.parametrize("text", ANSWERS)
def test_answers_are_no_refusals(text: str) -> None:
    assert not is_refusal(text)


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("English", "What is the capital of the country that has the most lakes?"),
        ("German", "Wie heißt die Hauptstadt und was ist das für ein Fluss, der durch sie fließt?"),
        ("French", "Quelle est la capitale du pays et quels sont les fleuves que vous connaissez dans le nord ?"),
        ("Spanish", "¿Cuál es la capital del país y qué ríos hay en el norte para los que no la conocen?"),
        ("Italian", "Qual è la capitale del paese e come sono le montagne che si vedono nel nord?"),
        ("Portuguese", "Qual é a capital do país e como são os rios que não se veem no mapa para você?"),
        ("Chinese", "这个国家的首都是哪里？请用 Python 写一个函数。"),
        ("Japanese", "この国の首都はどこですか。"),
        ("Korean", "이 나라의 수도는 어디입니까?"),
        ("Cyrillic script", "Какая столица у этой страны?"),
        ("Arabic script", "ما هي عاصمة هذا البلد؟"),
        ("Indic script", "इस देश की राजधानी क्या है?"),
        ("unknown", "x = 5"),
        ("unknown", ""),
        ("unknown", "I'm positive!"),
        ("English", "What is “Γεια” in the language of the Greeks?"),
    ],
)
def test_languages(language: str, text: str) -> None:
    assert LANGUAGES[language_of(text, words_of(text))] == language


SENTENCES = "It was a long day. The people of the town went home. "


@pytest.mark.parametrize(
    ("marks", "text"),
    [
        (Mark(0), SENTENCES),
        (Mark(0), "Paris"),
        (Mark(0), "4"),
        (Mark.EMPTY, "..."),
        (Mark.EMPTY, " \n"),
        (Mark.EMPTY, "N/A"),
        (Mark.UNFINISHED, SENTENCES + "And after that they all went to the"),
        (Mark.UNFINISHED, SENTENCES + "They took with them bread, cheese, wine, apples,"),
        (Mark(0), SENTENCES + "\n\nThe end"),
        (Mark(0), SENTENCES + "You will find more of it all at the page example.org/story"),
        (Mark.MARKDOWN, SENTENCES + "\n- one of the many things that they took with them home"),
        (Mark.LOOP, SENTENCES + "So it goes on. " * 50),
        (Mark.CODE, "It is this:\n```\nx = 1 < 2 and <p>\n```"),
        (Mark.LINK, "See https://example.org."),
        (Mark.HTML, "One<br>two &amp; three."),
        (Mark(0), "if a < b & c > d."),
        (Mark.MARKDOWN, "**Bold** words."),
        (Mark.REFUSAL, "I'm sorry, but I can't help with that."),
    ],
)
def test_marks(marks: Mark, text: str) -> None:
    assert Mark(marks_of(text, words_of(text))) == marks


def test_a_topic_is_looked_for_in_any_form_of_its_words() -> None:
    found = features(pair("Optimisations of compilers.", "Dogs bark.", "How do I optimise this compiler?"))
    assert (found.chosen_stems, found.rejected_stems, found.prompt_stems) == (2, 0, 2)
    chinese = features(pair("首都是巴黎。", "狗会叫。", "法国的首都在哪里？"))
    assert chinese.chosen_stems == 1 and chinese.rejected_stems == 0 and chinese.prompt_stems > 3


def test_a_long_conversation_is_about_its_last_turn_and_all_that_was_said() -> None:
    talk = Pair(
        prompt=[
            {"role": "system", "content": "Speak like a parrot."},
            {"role": "user", "content": "Tell me about volcanoes."},
            {"role": "assistant", "content": "They erupt."},
            {"role": "user", "content": "Thanks!"},
        ],
        chosen=[{"role": "assistant", "content": "A volcano thanks you."}],
        rejected=[{"role": "assistant", "content": "Parrot."}],
        source="a:1",
    )
    found = features(talk)
    assert (found.turns, found.prompt_stems, found.chosen_stems, found.rejected_stems) == (4, 1, 2, 0)


def test_the_common_start_is_a_share_of_the_shorter() -> None:
    assert features(pair("abcdefgh", "abcdXYZ")).common_start == pytest.approx(4 / 7)
    assert features(pair("abcd", "abcdefgh")).common_start == 1.0
    assert features(pair("abcd", "xbcd")).common_start == 0.0


def test_a_thinking_block_is_not_the_opening() -> None:
    found = features(pair("<think>Hm, a hard one.</think>\n\nI'm sorry, but I can't help with that.", "Yes, it is."))
    assert Mark(found.chosen_marks) == Mark.REFUSAL


def test_a_missing_answer_has_zeros() -> None:
    alone = pair("It is blue.", "no")
    alone.rejected = []
    found = asdict(features(alone))
    assert {value for name, value in found.items() if name.startswith("rejected_")} == {0}
    assert found["chosen_words"] == 3 and not found["formatting_only"]
    alone.chosen = [{"role": "assistant", "content": "!"}]
    assert not features(alone).formatting_only


def test_a_turn_that_only_calls_tools_is_not_empty() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "look", "arguments": "{}"}}]}
    one = pair("x", "y")
    one.chosen = [call]
    assert not features(one).chosen_marks & Mark.EMPTY


def test_token_ids_have_keys_and_nothing_else() -> None:
    def turn(*ids: int) -> list[dict[str, Any]]:
        return [{"role": "tokens", "ids": list(ids)}]

    one, other = (Pair(prompt=turn(1), chosen=turn(2, 3), rejected=turn(*ids), source="a:1") for ids in ((4,), (5,)))
    assert features(one).chosen_key == features(other).chosen_key != features(one).rejected_key
    assert features(one).rejected_key != features(other).rejected_key
    assert features(one) == Features(
        turns=1, chosen_key=features(one).chosen_key, rejected_key=features(one).rejected_key
    )


def test_keys_are_the_same_in_every_process() -> None:
    """Hashes of strings differ between processes; columns of several must agree."""
    code = (
        "from dpo.data.findings.features import features; from dpo.data.pair import Pair;"
        "turn = lambda role, text: [{'role': role, 'content': text}];"
        "found = features(Pair(prompt=turn('user', 'What is it?'), chosen=turn('assistant', 'It is blue today.'),"
        "rejected=turn('assistant', 'It is red.'), source='a:1')); print(found.chosen_key, found.chosen_opening)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    found = features(pair("It is blue today.", "It is red."))
    assert [found.chosen_key, found.chosen_opening] == [int(word) for word in said]


TEXT = st.text(max_size=300) | st.text("aeI,.!?*#`<>&' \n-[:]", max_size=300) | st.sampled_from(REFUSALS + ANSWERS)


@given(prompt=TEXT, chosen=TEXT, rejected=TEXT)
@settings(max_examples=300, deadline=None)
def test_any_text_has_features_that_fit_their_columns(prompt: str, chosen: str, rejected: str) -> None:
    found = asdict(features(pair(chosen, rejected, prompt)))
    assert set(found) == set(DTYPES)
    for name, value in found.items():
        assert np.array([value], DTYPES[name])[0] == pytest.approx(float(value))
    assert 0 <= found["common_words"] <= 1 and 0 <= found["common_start"] <= 1
    other = asdict(features(pair(rejected, chosen, prompt)))
    for name in ("key", "opening", "words", "stems", "marks", "language"):
        assert found[f"chosen_{name}"] == other[f"rejected_{name}"]


def test_ten_megabytes_are_no_trouble() -> None:
    found = features(pair("word " * 2_000_000, "a" * 10_000_000))
    assert found.chosen_words == 2**16 - 1 and Mark(found.chosen_marks) == Mark.LOOP
