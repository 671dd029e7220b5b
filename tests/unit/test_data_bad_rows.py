"""Rows that give no pair: each told by its reason, and whatever they hold, no crash."""

from itertools import product
from typing import Any

import pytest
from format_rows import (
    ALPACA,
    CHATML,
    GOOD_AND_BAD,
    HH,
    JUDGE,
    MESSAGES,
    OPENAI,
    RANKED,
    SAFER,
    SAMPLES,
    SCORED,
    SHAREGPT,
    SINGLE,
    STEER,
    STRINGS,
    SUMMARIES,
    VOTED,
    Sample,
    answer,
    converter,
    converter_for,
    turn,
    user,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from dpo.data.formats.convert import Converter
from dpo.data.formats.format import columns_of
from dpo.data.formats.settings import FormatSettings
from dpo.data.formats.table import FORMATS
from dpo.data.pair import Dropped, Pair, Reject
from dpo.data.read.files import Row

pytestmark = pytest.mark.unit

BAD: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    (STRINGS, {"rejected": None}, "no rejected answer", "rejected is absent or null"),
    (STRINGS, {"chosen": None}, "no chosen answer", "chosen is absent or null"),
    (STRINGS, {"chosen": " \n"}, "empty answer", "chosen is blank"),
    (STRINGS, {"rejected": ""}, "empty answer", "rejected is blank"),
    (STRINGS, {"rejected": "c"}, "chosen equals rejected", "both are 'c'"),
    (STRINGS, {"prompt": ""}, "empty prompt", "no text in its last turn"),
    (STRINGS, {"prompt": None}, "empty prompt", "prompt is absent or null"),
    (STRINGS, {"prompt": 3}, "wrong type", "prompt is a number, expected text"),
    (STRINGS, {"chosen": ["c"]}, "wrong type", "chosen is a list, expected text"),
    (STRINGS, {"chosen": "\ud800"}, "invalid text", "half a surrogate pair at character 1"),
    (STRINGS, {"system": 5}, "wrong type", "system is a number"),
    (STRINGS, {"margin": "large"}, "margin is not a number", "large"),
    (STRINGS, {"margin": True}, "margin is not a number", "True"),
    (STRINGS, {"margin": float("nan")}, "margin is not a number", "nan"),
    (STRINGS, {"margin": 10**400}, "margin is not a number", "1000"),
    (STRINGS, {"score_chosen": "good", "score_rejected": 1}, "score_chosen is not a number", "good"),
    (STRINGS, {"tools": "no list"}, "invalid JSON in a field", "tools is 'no list'"),
    (STRINGS, {"tools": [{"description": "x"}]}, "wrong type", "tools[0].name is absent"),
    (STRINGS, {"dimensions": {"truth": 5}}, "wrong type", "dimensions.truth is a number"),
    (STRINGS, {"ref_chosen_logps": -1}, "half of the reference log-probabilities", "ref_rejected_logps is missing"),
    (STRINGS, {"ref_chosen_logps": -1, "ref_rejected_logps": 1}, "positive reference log-probability", "-1 and 1"),
    (SHAREGPT, {"images": ["a.png"]}, "content is not text", "the row comes with images"),
    (STRINGS, {"image": {"path": "a.png"}}, "content is not text", "the row comes with image"),
    (SHAREGPT, {"conversations": []}, "empty prompt", "no turns"),
    (SHAREGPT, {"conversations": None}, "empty prompt", "absent or null"),
    (SHAREGPT, {"conversations": "q"}, "wrong type", "conversations is text, expected a list"),
    (SHAREGPT, {"conversations": ["q"]}, "wrong type", "conversations[0] is text"),
    (SHAREGPT, {"conversations": [turn("robot", "q")]}, "unknown role", "conversations[0] has from 'robot'"),
    (SHAREGPT, {"conversations": [{"value": "q"}]}, "unknown role", "None"),
    (
        SHAREGPT,
        {"conversations": [turn("human", "q"), turn("gpt", "a")]},
        "prompt does not end with a user turn",
        "assis",
    ),
    (
        SHAREGPT,
        {"conversations": [turn("observation", "x"), turn("human", "q")]},
        "tool turn without a call",
        "no assis",
    ),
    (SHAREGPT, {"chosen": turn("human", "c")}, "answer is not an assistant turn", "chosen has a turn of role user"),
    (SHAREGPT, {"rejected": []}, "no rejected answer", "empty list"),
    (SHAREGPT, {"rejected": {"from": "gpt", "value": None}}, "wrong type", "is absent or null"),
    (SHAREGPT, {"rejected": {"from": "gpt", "value": 5}}, "wrong type", "rejected.value is a number"),
    (MESSAGES, {"rejected": [user("other"), answer("r")]}, "answers do not continue the prompt", "other turns"),
    (MESSAGES, {"prompt": None, "rejected": [user("other"), answer("r")]}, "no common prompt", "begin differently"),
    (
        MESSAGES,
        {"rejected": [user("q"), user("r")]},
        "answer is not an assistant turn",
        "rejected has a turn of role user",
    ),
    (MESSAGES, {"rejected": [user("q"), answer("c")]}, "chosen equals rejected", "both are 'c'"),
    (HH, {"chosen": "\n\nHuman: q\n\nAssistant: "}, "empty answer", "chosen is blank"),
    (HH, {"chosen": "\n\nHuman: q\n\nAssistant: c\n\nHuman: x"}, "answer is not an assistant turn", "role user"),
    (HH, {"rejected": "\n\nHuman: other\n\nAssistant: r"}, "no common prompt", "begin differently"),
    ({"chosen": "a b", "rejected": "a c"}, {"rejected": "x"}, "no common prompt", "begin differently"),
    ({**STRINGS, "prompt": CHATML}, {"prompt": "q"}, "prompt without chat markers", "prompt has none"),
    ({**STRINGS, "prompt": CHATML}, {"system": "be kind"}, "system text beside a rendered prompt", "be kind"),
    (ALPACA, {"history": [["a"]]}, "wrong type", "history is no list of"),
    (OPENAI, {"input": "q"}, "wrong type", "input is text, expected an object"),
    (OPENAI, {"preferred_output": []}, "no chosen answer", "preferred_output"),
    (SAFER, {"better_response_id": None}, "no label", "better_response_id is None, expected 0 or 1"),
    (SAFER, {"better_response_id": 2}, "no label", "2"),
    (SAFER, {"response_0": None}, "no answer", "response_0"),
    (JUDGE, {"preference": 3}, "no label", "preference is 3, expected 1 or 2"),
    (JUDGE, {"preference": None}, "no label", "None"),
    (STEER, {"overall_preference": None}, "no label", "absent"),
    (RANKED, {"scores": [1, 2]}, "scores do not match the answers", "expected 3 numbers"),
    (RANKED, {"scores": None}, "no label", "neither ranks, rankings"),
    (RANKED, {"responses": ["a", "", None]}, "empty answer", "1 of 3 answers are not blank"),
    (RANKED, {"responses": ["a", "a", "a"]}, "chosen equals rejected", "both are 'a'"),
    (RANKED, {"responses": ["a", [user("b")], "c"]}, "answer is not an assistant turn", "role user"),
    (
        RANKED,
        {"ref_chosen_logps": -1, "ref_rejected_logps": -1},
        "reference log-probabilities without a pair",
        "belong to one",
    ),
    (SCORED, {"score_1": None}, "no label", "score_1 is absent or null"),
    (SCORED, {"score_1": "low"}, "score_1 is not a number", "low"),
    (SUMMARIES, {"choice": 2}, "no label", "choice is 2, expected 0 or 1"),
    (SUMMARIES, {"summaries": [{"text": "c"}]}, "wrong type", "expected two"),
    (SUMMARIES, {"summaries": [{"text": "c"}, {}]}, "no answer", "summaries is absent"),
    (SUMMARIES, {"info": {"post": "p"}}, "wrong type", "info.subreddit is absent or null"),
    (VOTED, {"winner_model_b": "1"}, "no label", "winner_model_a and winner_model_b are both '1'"),
    (VOTED, {"response_a": '["x"]'}, "turns do not match", "prompt has 2 texts, response_a 1"),
    (VOTED, {"response_a": '["x", null]'}, "wrong type", "response_a[1] is absent or null"),
    (VOTED, {"response_a": "x"}, "invalid JSON in a field", "response_a is 'x'"),
    (GOOD_AND_BAD, {"rejected": ["a"], "chosen": ["a"]}, "chosen equals rejected", "both are 'a'"),
    (STRINGS, {"chat_template_kwargs": [1]}, "wrong type", "chat_template_kwargs is a list, expected an object"),
    (STRINGS, {"chat_template_kwargs": {"a": "\ud800"}}, "invalid text", "chat_template_kwargs holds half"),
    (STRINGS, {"history": "before"}, "wrong type", "history is no list of"),
    (SINGLE, {"label": "maybe"}, "no label", "'maybe', expected true or false"),
    (SINGLE, {"messages": [user("q")]}, "no answer", "messages ends with a user turn"),
    (SINGLE, {"messages": [user("q"), answer("")]}, "empty answer", "the answer is blank"),
]


@pytest.mark.parametrize(("base", "change", "reason", "detail"), BAD)
def test_a_bad_row_is_a_reject_with_its_reason(
    base: dict[str, Any], change: dict[str, Any], reason: str, detail: str
) -> None:
    result = converter(base).pairs(Row(values={**base, **change}, source="a.jsonl:7"))
    assert isinstance(result, Reject), result
    assert not isinstance(result, Dropped)
    assert (result.source, result.reason) == ("a.jsonl:7", reason)
    assert detail in result.detail


@pytest.mark.parametrize(
    ("base", "change", "detail"),
    [
        (STEER, {"overall_preference": 0}, "overall_preference is 0"),
        (JUDGE, {"preference": 1.5}, "preference is 1.5: a tie"),
        ({"prompt": "q", "response_a": "a", "response_b": "b", "winner": "a"}, {"winner": "Tie (bothbad)"}, "bothbad"),
        ({"prompt": "q", "response_a": "a", "response_b": "b", "winner": "a"}, {"winner": "both_bad"}, "both_bad"),
        ({"prompt": "q", "response_A": "a", "response_B": "b", "label": "A>B"}, {"label": "[[A=B]]"}, "A=B"),
        (SCORED, {"score_1": 0.5}, "score_0 and score_1 are both 0.5"),
        (VOTED, {"winner_model_a": "0"}, "neither winner_model_a nor winner_model_b: a tie"),
        (GOOD_AND_BAD, {"rejected": []}, "2 answers with a score, none better than another"),
        (RANKED, {"scores": [2, 2, 2]}, "3 answers with a score, none better than another"),
        (RANKED, {"scores": [2, None, None]}, "1 answers with a score"),
    ],
)
def test_a_sound_row_that_prefers_nothing_is_dropped(base: dict[str, Any], change: dict[str, Any], detail: str) -> None:
    result = converter(base).pairs(Row(values={**base, **change}, source="a.jsonl:7"))
    assert isinstance(result, Dropped), result
    assert result.reason == "no preference"
    assert detail in result.detail


def test_a_value_nested_as_deep_as_the_parser_allows_is_a_reject() -> None:
    value: list[Any] = []
    for _ in range(5000):
        value = [value]
    assert isinstance(converter(STRINGS).pairs(Row(values={**STRINGS, "margin": value}, source="a:1")), Reject)


FOREIGN = (3, "x", True, 2.5, [], [3], ["x"], {}, {"a": 3}, [[]], [{}], [{"role": 3}])


@pytest.mark.parametrize("sample", SAMPLES, ids=[sample.format for sample in SAMPLES])
def test_one_row_with_a_value_of_another_kind_stops_nothing(sample: Sample) -> None:
    """The format is looked for in all rows of a sample, bad ones among them."""
    for column, value in product(sample.row, FOREIGN):
        bad = {**sample.row, column: value}
        found = converter_for([sample.row, sample.row, bad], FormatSettings(), "a.jsonl")
        assert isinstance(found.pairs(Row(values=sample.row, source="a.jsonl:1")), list), (column, value)
        found.pairs(Row(values=bad, source="a.jsonl:3"))


TURN_KEYS = ("role", "content", "from", "value", "text", "type", "tool_calls", "loss_weight")
LIST_KEYS = ("rank", "score", "response", "annotations", "answer", "chosen", "rejected", "outputs", "rewards")
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1, 3)
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from(["\ud800", "user", "gpt", "function_call", '{"name": "f"}', "\n\nHuman: q\n\nAssistant: a"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from((*TURN_KEYS, *LIST_KEYS, "messages", "input")),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)
OTHERS = ["margin", "system", "tools", "dimensions", "score_chosen", "history", "responses", "ref_chosen_logps"]


@settings(max_examples=400, deadline=None, database=None)
@given(name=st.sampled_from(sorted(FORMATS)), data=st.data())
def test_any_json_in_any_column_gives_pairs_or_a_reject(name: str, data: st.DataObject) -> None:
    names = [column for columns in FORMATS[name].columns for column in columns.split("|")] + OTHERS
    row = data.draw(st.dictionaries(st.sampled_from(names), JSON, max_size=6))
    result = Converter(format=FORMATS[name], settings=FormatSettings()).pairs(Row(values=row, source="a:1"))
    assert isinstance(result, Reject) or (result and all(isinstance(pair, Pair) for pair in result))
    columns = columns_of([row])
    assert all(isinstance(entry.matches(columns, [row]), bool) for entry in FORMATS.values())
