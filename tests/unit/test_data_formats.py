"""Formats: recognised by their columns, converted to messages, and every bad row told by its reason."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpo.data.formats.convert import convert_rows, parse_row
from dpo.data.formats.table import FORMATS, choose_format, columns_of
from dpo.data.pair import Pair, Reject
from dpo.data.read.files import Origin, Row
from dpo.errors import DataError


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def system(text: str) -> dict[str, str]:
    return {"role": "system", "content": text}


def turn(role: str, text: str) -> dict[str, str]:
    return {"from": role, "value": text}


def convert(row: dict[str, Any], setting: str = "auto") -> tuple[str, Pair | Reject]:
    chosen = choose_format(setting, columns_of([row]), "a.jsonl")
    return chosen.name, parse_row(chosen, Row(values=row, source="a.jsonl:1"))


GOOD: list[tuple[str, dict[str, Any], list[dict[str, str]]]] = [
    (
        "sharegpt",
        {"conversations": [turn("human", "q")], "chosen": turn("gpt", "c"), "rejected": turn("gpt", "r")},
        [user("q")],
    ),
    (
        "sharegpt",
        {
            "system": "be kind",
            "conversations": [turn("user", "q"), turn("assistant", "a"), turn("human", "q2")],
            "chosen": "c",
            "rejected": "r",
        },
        [system("be kind"), user("q"), answer("a"), user("q2")],
    ),
    (
        "sharegpt",
        {"conversations": [turn("system", "s"), turn("human", "q")], "chosen": "c", "rejected": "r", "system": "other"},
        [system("s"), user("q")],
    ),
    ("strings", {"prompt": "q", "chosen": "c", "rejected": "r", "unknown": {"extra": 1}}, [user("q")]),
    ("strings", {"prompt": "q", "chosen": "c", "rejected": "r", "system": "s"}, [system("s"), user("q")]),
    ("alpaca_ranking", {"instruction": "do", "input": "", "chosen": "c", "rejected": "r"}, [user("do")]),
    ("alpaca_ranking", {"instruction": "do", "input": "it", "chosen": "c", "rejected": "r"}, [user("do\n\nit")]),
    # hub ultrafeedback_binarized: the prompt as text, and once more in both answers
    (
        "messages",
        {"prompt": "q", "chosen": [user("q"), answer("c")], "rejected": [user("q"), answer("r")], "score_chosen": 8.5},
        [user("q")],
    ),
    ("messages", {"prompt": [user("q")], "chosen": [answer("c")], "rejected": [answer("r")]}, [user("q")]),
    ("messages", {"prompt": "q", "chosen": [answer("c")], "rejected": [answer("r")]}, [user("q")]),
    ("messages", {"chosen": [user("q"), answer("c")], "rejected": [user("q"), answer("r")]}, [user("q")]),
    (
        "messages",  # the prompt column tells only the last turn of a longer conversation
        {
            "prompt": "q2",
            "chosen": [system("s"), user("q"), answer("a"), user("q2"), answer("c")],
            "rejected": [system("s"), user("q"), answer("a"), user("q2"), answer("r")],
        },
        [system("s"), user("q"), answer("a"), user("q2")],
    ),
    (
        "messages",
        {"prompt": "q ", "chosen": [user("q"), answer("c")], "rejected": [user("q"), answer("r")]},
        [user("q")],
    ),
]


@pytest.mark.parametrize(("name", "row", "prompt"), GOOD)
def test_a_good_row_is_recognised_and_converted(name: str, row: dict[str, Any], prompt: list[dict[str, str]]) -> None:
    found, pair = convert(row)
    assert isinstance(pair, Pair), pair
    assert found == name
    assert (pair.prompt, pair.chosen, pair.rejected) == (prompt, [answer("c")], [answer("r")])
    assert pair.source == "a.jsonl:1"


def test_every_format_has_a_good_row() -> None:
    assert {name for name, _, _ in GOOD} == set(FORMATS)


def test_answers_that_part_earlier_stay_several_messages() -> None:
    row = {
        "chosen": [user("q"), answer("a"), user("x"), answer("c")],
        "rejected": [user("q"), answer("a"), user("y"), answer("r")],
    }
    _, pair = convert(row)
    assert isinstance(pair, Pair)
    assert pair.prompt == [user("q")]
    assert [len(pair.chosen), len(pair.rejected)] == [3, 3]


STRINGS = {"prompt": "q", "chosen": "c", "rejected": "r"}
SHAREGPT = {"conversations": [turn("human", "q")], "chosen": turn("gpt", "c"), "rejected": turn("gpt", "r")}
MESSAGES = {"prompt": "q", "chosen": [user("q"), answer("c")], "rejected": [user("q"), answer("r")]}
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
        "assistant",
    ),
    (SHAREGPT, {"chosen": turn("human", "c")}, "answer is not an assistant turn", "chosen has a turn of role user"),
    (SHAREGPT, {"rejected": []}, "no rejected answer", "empty list"),
    (SHAREGPT, {"rejected": {"from": "gpt", "value": None}}, "wrong type", "rejected.value is absent or null"),
    (SHAREGPT, {"rejected": {"from": "gpt", "value": ["r"]}}, "wrong type", "rejected.value is a list"),
    (MESSAGES, {"rejected": [user("other"), answer("r")]}, "answers do not continue the prompt", "other turns"),
    (MESSAGES, {"prompt": None, "rejected": [user("other"), answer("r")]}, "no common prompt", "begin differently"),
    (
        MESSAGES,
        {"rejected": [user("q"), user("r")]},
        "answer is not an assistant turn",
        "rejected has a turn of role user",
    ),
    (
        MESSAGES,
        {"chosen": [user("q"), {**answer("c"), "tool_calls": [1]}]},
        "tool calls are not supported",
        "chosen[1]",
    ),
    (MESSAGES, {"chosen": [user("q"), {"role": "assistant", "content": [{"type": "text"}]}]}, "wrong type", "a list"),
    (MESSAGES, {"rejected": [user("q"), answer("c")]}, "chosen equals rejected", "both are 'c'"),
]


@pytest.mark.parametrize(("base", "change", "reason", "detail"), BAD)
def test_a_bad_row_is_a_reject_with_its_reason(
    base: dict[str, Any], change: dict[str, Any], reason: str, detail: str
) -> None:
    chosen = choose_format("auto", columns_of([base]), "a.jsonl")
    result = parse_row(chosen, Row(values={**base, **change}, source="a.jsonl:7"))
    assert isinstance(result, Reject), result
    assert (result.source, result.reason) == ("a.jsonl:7", reason)
    assert detail in result.detail


def test_margin() -> None:
    assert [convert({**STRINGS, "margin": margin})[1].margin for margin in (1, 0.5, None)] == [1.0, 0.5, None]


def test_a_value_nested_as_deep_as_the_parser_allows_is_a_reject() -> None:
    value: list[Any] = []
    for _ in range(5000):
        value = [value]
    result = parse_row(FORMATS["strings"], Row(values={**STRINGS, "margin": value}, source="a:1"))
    assert isinstance(result, Reject)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from(["\ud800", "user", "gpt"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "from", "value", "tool_calls"]), inner, max_size=3)
    ),
    max_leaves=6,
)
COLUMNS = ("conversations", "prompt", "chosen", "rejected", "system", "instruction", "input", "margin")


@settings(max_examples=300, deadline=None, database=None)
@given(name=st.sampled_from(sorted(FORMATS)), row=st.dictionaries(st.sampled_from(COLUMNS), JSON))
def test_any_json_in_any_column_is_a_pair_or_a_reject(name: str, row: dict[str, Any]) -> None:
    result = parse_row(FORMATS[name], Row(values=row, source="a:1"))
    assert isinstance(result, (Pair, Reject))
    choose = columns_of([row])
    assert all(isinstance(entry.matches(choose), bool) for entry in FORMATS.values())


def test_a_few_bad_rows_do_not_hide_the_format() -> None:
    rows = [{**STRINGS, "chosen": 3}, STRINGS, STRINGS, {"prompt": None}]
    assert choose_format("auto", columns_of(rows), "a.jsonl").name == "strings"


def test_no_match_lists_columns_formats_and_the_setting() -> None:
    with pytest.raises(DataError) as error:
        convert({"question": "q", "chosen": "c", "score": 1})
    message = str(error.value)
    for part in ("a.jsonl", "question (text), chosen (text), score (number)", "data.format"):
        assert part in message
    for name in FORMATS:
        assert f"  {name} (" in message
    assert "lacks prompt; lacks rejected" in message


def test_a_column_of_the_wrong_kind_is_named() -> None:
    with pytest.raises(DataError, match="chosen is number, expected text"):
        convert({"prompt": "q", "chosen": 1, "rejected": 2})


def test_a_named_format_is_used_even_where_another_fits() -> None:
    row = {"instruction": "do", "prompt": "q", "chosen": "c", "rejected": "r"}
    assert [convert(row)[0], convert(row, "alpaca_ranking")[0]] == ["strings", "alpaca_ranking"]


def test_an_unknown_or_unsuitable_format_name_is_an_error() -> None:
    with pytest.raises(DataError, match=r"data\.format=shargpt is unknown.*sharegpt"):
        convert(STRINGS, "shargpt")
    with pytest.raises(DataError, match=r"data\.format=sharegpt needs the column conversations; a\.jsonl has prompt"):
        convert(STRINGS, "sharegpt")


def test_convert_rows_counts_every_row(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(STRINGS) + "\nbroken\n" + json.dumps({**STRINGS, "chosen": ""}) + "\n")
    found = convert_rows(Origin(path=str(path)), "auto")
    assert (found.rows_read, len(found.pairs), found.format.name) == (3, 1, "strings")
    assert [(r.source, r.reason) for r in found.rejects] == [
        ("a.jsonl:2", "invalid JSON"),
        ("a.jsonl:3", "empty answer"),
    ]


@pytest.mark.parametrize(("text", "part"), [("", "holds no rows"), ("x\n", "no row of .* can be read.*a.jsonl:1")])
def test_a_file_without_a_readable_row_is_an_error(tmp_path: Path, text: str, part: str) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(DataError, match=part):
        convert_rows(Origin(path=str(tmp_path / "a.jsonl")), "auto")
