"""Formats: recognised by their columns and values, converted to messages, and every bad row told by its reason."""

import json
import pickle
from itertools import permutations
from pathlib import Path
from typing import Any

import format_rows as rows
import pytest
from format_rows import SAMPLES, Sample, answer, system, turn, user
from hypothesis import given, settings
from hypothesis import strategies as st

from dpo.data.formats.adjacent import MOST, joined
from dpo.data.formats.convert import Converter, convert_rows, converter_for, require_used
from dpo.data.formats.encoded import decoded, encoded_columns
from dpo.data.formats.format import columns_of
from dpo.data.formats.settings import FormatSettings
from dpo.data.formats.table import FORMATS, choose_format
from dpo.data.pair import Dropped, Pair, Reject
from dpo.data.read.files import Origin, Row
from dpo.errors import DataError

pytestmark = pytest.mark.unit


def converter(row: dict[str, Any], **changes: Any) -> Converter:
    return converter_for([row], FormatSettings(**changes), "a.jsonl")


def convert(row: dict[str, Any], **changes: Any) -> list[Pair] | Reject:
    return converter(row, **changes).pairs(Row(values=row, source="a.jsonl:7"))


def text(turns: list[dict[str, Any]]) -> str:
    return turns[-1]["content"] if turns else ""


def told(pairs: list[Pair]) -> list[tuple[str, str, float | None]]:
    return [(text(pair.chosen), text(pair.rejected), pair.margin) for pair in pairs]


NAMES = [f"{i}-{sample.format}" for i, sample in enumerate(SAMPLES)]


@pytest.mark.parametrize("sample", SAMPLES, ids=NAMES)
def test_a_row_is_recognised_and_converted(sample: Sample) -> None:
    reading = converter(sample.row)
    assert reading.format.name == sample.format
    pairs = reading.pairs(Row(values=sample.row, source="a.jsonl:7"))
    assert isinstance(pairs, list), pairs
    assert {pair.source for pair in pairs} == {"a.jsonl:7"}
    if sample.format == "tokens":
        return  # below
    assert told(pairs) == sample.pairs
    assert [pair.prompt for pair in pairs] == [sample.prompt] * len(pairs)
    assert all(len(turns) <= 1 for pair in pairs for turns in (pair.chosen, pair.rejected))


@pytest.mark.parametrize("sample", SAMPLES, ids=NAMES)
def test_a_row_has_no_second_format(sample: Sample) -> None:
    """So that the order of the table decides nothing."""
    row = decoded(sample.row, encoded_columns([sample.row]))
    assert [one.name for one in FORMATS.values() if one.matches(columns_of([row]), [row])] == [sample.format]


def test_every_format_has_a_row() -> None:
    assert {sample.format for sample in SAMPLES} | {"helpsteer"} == set(FORMATS)


def test_token_ids_stay_as_they_are() -> None:
    given = [sample.row for sample in SAMPLES if sample.format == "tokens"]
    pairs = [pair for row in given for pair in convert(row)]
    ids = [[[turn["ids"] for turn in turns] for turns in (p.prompt, p.chosen, p.rejected)] for p in pairs]
    assert ids == [[[[5, 6]], [[7]], [[8, 9]]], [[[5]], [[7]], [[8]]]]  # the second repeats the prompt
    assert all(pair.prompt[0] == {"role": "tokens", "content": "", "ids": [5, 6]} for pair in pairs[:1])


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("chosen_ids", [], "no chosen answer"),
        ("prompt_ids", None, "empty prompt"),
        ("chosen_ids", [1, True], "wrong type"),
        ("rejected_ids", [1, -1], "wrong type"),
        ("rejected_ids", [1.5], "wrong type"),
        ("rejected_ids", "1 2", "wrong type"),
        ("rejected_ids", [5, 7], "chosen equals rejected"),
    ],
)
def test_what_is_no_list_of_token_ids_is_a_reject(column: str, value: object, reason: str) -> None:
    base = {"prompt_ids": [5], "chosen_ids": [5, 7], "rejected_ids": [5, 8]}
    result = converter(base).pairs(Row(values={**base, column: value}, source="a:1"))
    assert isinstance(result, Reject)
    assert result.reason == reason


HELPSTEER = [
    {"prompt": "q", "response": "c", "helpfulness": 4, **rows.ATTRIBUTES},
    {"prompt": "q", "response": "r", "helpfulness": 3, **rows.ATTRIBUTES},
    {
        "prompt": "<extra_id_1>User\nq\n<extra_id_1>Assistant\na\n<extra_id_1>User\nq2",
        "response": "x",
        "helpfulness": 1,
    },
    {"prompt": "q\n<extra_id_1>Assistant\na\n<extra_id_1>User\nq2", "response": "x", "helpfulness": 1},
    {"prompt": "q\n<extra_id_1>Assistant\na\n<extra_id_1>User\nq2", "response": "y", "helpfulness": 2},
]


def write(path: Path, values: list[Any]) -> Origin:
    path.write_text("".join((value if isinstance(value, str) else json.dumps(value)) + "\n" for value in values))
    return Origin(path=str(path))


def test_adjacent_rows_of_one_prompt_are_one(tmp_path: Path) -> None:
    found = convert_rows(write(tmp_path / "a.jsonl", [*HELPSTEER[:1], "broken", *HELPSTEER[1:]]), FormatSettings())
    assert found.converter.format.name == "helpsteer"
    assert told(found.pairs) == [("c", "r", 1.0), ("y", "x", 1.0)]
    assert found.pairs[1].prompt == [user("q"), answer("a"), user("q2")]
    assert [pair.source for pair in found.pairs] == ["a.jsonl:1", "a.jsonl:5"]
    assert [(r.source, r.reason) for r in found.rejects] == [("a.jsonl:2", "invalid JSON")]
    assert [(r.source, r.reason) for r in found.dropped] == [("a.jsonl:4", "a single answer")]
    assert found.rows_read == 4  # two joined, one alone, one broken


def test_joining_is_bounded() -> None:
    many = [Row(values={**HELPSTEER[0], "response": str(i)}, source=f"a:{i}") for i in range(MOST + 2)]
    assert [len(row.values["responses"]) for row in joined(many, FORMATS["helpsteer"])] == [MOST, 2]
    assert list(joined(many, FORMATS["strings"])) == many


STRINGS = {"prompt": "q", "chosen": "c", "rejected": "r"}
SHAREGPT = {"conversations": [turn("human", "q")], "chosen": turn("gpt", "c"), "rejected": turn("gpt", "r")}
MESSAGES = {"prompt": "q", "chosen": [user("q"), answer("c")], "rejected": [user("q"), answer("r")]}
HH = {"chosen": "\n\nHuman: q\n\nAssistant: c", "rejected": "\n\nHuman: q\n\nAssistant: r"}
SAFER = {"prompt": "q", "response_0": "a", "response_1": "b", "better_response_id": 0, "safer_response_id": 1}
JUDGE = {"instruction": "q", "output_1": "a", "output_2": "b", "preference": 1}
STEER = {"context": [user("q")], "response1": "a", "response2": "b", "overall_preference": 1}
RANKED = {"prompt": "q", "responses": ["a", "b", "c"], "scores": [1, 2, 3]}
SINGLE = {"messages": [user("q"), answer("c")], "label": True}
OPENAI = {"input": {"messages": [user("q")]}, "preferred_output": [answer("c")], "non_preferred_output": [answer("r")]}
ALPACA = {"instruction": "q", "history": [["a", "b"]], "chosen": "c", "rejected": "r"}
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
    ({**STRINGS, "prompt": rows.CHATML}, {"prompt": "q"}, "prompt without chat markers", "prompt has none"),
    ({**STRINGS, "prompt": rows.CHATML}, {"system": "be kind"}, "system text beside a rendered prompt", "be kind"),
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
    (RANKED, {"scores": None}, "no label", "neither ranks"),
    (RANKED, {"responses": ["a", "", None]}, "empty answer", "1 of 3 answers are not blank"),
    (RANKED, {"responses": ["a", "a", "a"]}, "chosen equals rejected", "both are 'a'"),
    (RANKED, {"responses": ["a", [user("b")], "c"]}, "answer is not an assistant turn", "role user"),
    (RANKED, {"ref_chosen_logps": -1, "ref_rejected_logps": -1}, "half of the reference log-probabilities", "no pair"),
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
        (RANKED, {"scores": [2, 2, 2]}, "3 answers with a score, none better than another"),
        (RANKED, {"scores": [2, None, None]}, "1 answers with a score"),
    ],
)
def test_a_sound_row_that_prefers_nothing_is_dropped(base: dict[str, Any], change: dict[str, Any], detail: str) -> None:
    result = converter(base).pairs(Row(values={**base, **change}, source="a.jsonl:7"))
    assert isinstance(result, Dropped), result
    assert result.reason == "no preference"
    assert detail in result.detail


def test_plain_text_is_a_user_turn_or_goes_on() -> None:
    assert convert(STRINGS, plain_text="raw")[0].prompt == [rows.raw("q")]
    assert convert({**STRINGS, "system": "s"}, plain_text="raw")[0].prompt == [rows.raw("s\n\nq")]
    sky = {"chosen": "The sky is blue.", "rejected": "The sky is bleak."}
    (pair,) = convert(sky, plain_text="raw")
    assert (pair.prompt, text(pair.chosen), text(pair.rejected)) == ([rows.raw("The sky is")], " blue.", " bleak.")
    assert "user turn" in converter(STRINGS).describe()
    assert "the answer continues" in converter(STRINGS, plain_text="raw").describe()
    assert "plain_text" not in converter(MESSAGES).describe()


@pytest.mark.parametrize(
    "prompt",
    [
        "<s>[INST] q [/INST]",
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nq<|eot_id|>",
        "<bos><start_of_turn>user\nq<end_of_turn>\n<start_of_turn>model\n",
        "<|user|>\nq</s>\n<|assistant|>\n",
        "### Instruction:\nq\n\n### Response:\n",
    ],
)
def test_a_rendered_prompt_is_recognised(prompt: str) -> None:
    found = converter({**STRINGS, "prompt": prompt})
    assert found.pairs(Row(values={**STRINGS, "prompt": prompt}, source="a:1"))[0].prompt == [rows.raw(prompt)]
    assert "chat markers already" in found.describe()


def test_markers_in_the_middle_of_a_prompt_are_text() -> None:
    assert convert({**STRINGS, "prompt": f"what is {rows.CHATML}"})[0].prompt[0]["role"] == "user"


def test_few_rendered_prompts_are_no_reason_to_trust_markers() -> None:
    found = converter_for([STRINGS, STRINGS, {**STRINGS, "prompt": rows.CHATML}], FormatSettings(), "a")
    assert found.settings.plain_text == "user_turn"


def test_the_label_of_saferlhf_is_a_setting() -> None:
    assert told(convert(SAFER)) == [("a", "b", None)]
    assert told(convert(SAFER, preference="safer")) == [("b", "a", None)]


def test_reference_log_probabilities_of_the_row() -> None:
    row = {**STRINGS, "ref_chosen_logps": -1, "ref_rejected_logps": -2.5}
    assert convert(row)[0].reference == (-1.0, -2.5)
    assert convert(row, reference_logps="ignore")[0].reference is None
    assert convert(STRINGS)[0].reference is None


def test_answers_that_part_earlier_stay_several_messages() -> None:
    row = {
        "chosen": [user("q"), answer("a"), user("x"), answer("c")],
        "rejected": [user("q"), answer("a"), user("y"), answer("r")],
    }
    (pair,) = convert(row)
    assert pair.prompt == [user("q")]
    assert [len(pair.chosen), len(pair.rejected)] == [3, 3]


def test_a_value_nested_as_deep_as_the_parser_allows_is_a_reject() -> None:
    value: list[Any] = []
    for _ in range(5000):
        value = [value]
    assert isinstance(converter(STRINGS).pairs(Row(values={**STRINGS, "margin": value}, source="a:1")), Reject)


@pytest.mark.parametrize("name", FORMATS)
def test_a_converter_can_be_sent_to_another_process(name: str) -> None:
    reading = Converter(format=FORMATS[name], settings=FormatSettings(), dataset="x")
    again = pickle.loads(pickle.dumps(reading))
    row = next((sample.row for sample in SAMPLES if sample.format == name), {"prompt": "q", "responses": HELPSTEER[:2]})
    assert again.pairs(Row(values=row, source="a:1")) == reading.pairs(Row(values=row, source="a:1"))
    assert again.dataset == "x"


KEYS = (
    "role content from value tool_calls rank score response annotations answer chosen rejected text type loss_weight "
    "messages input outputs rewards"
).split()
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
            st.sampled_from(KEYS),
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


def test_a_few_bad_rows_do_not_hide_the_format() -> None:
    sample = [{**STRINGS, "chosen": 3}, STRINGS, STRINGS, {"prompt": None}]
    assert all(choose_format("auto", list(order), "a").name == "strings" for order in permutations(sample))


def test_no_match_lists_columns_the_closest_formats_and_the_setting() -> None:
    with pytest.raises(DataError) as error:
        converter({"prompt": "q", "chosen": "c", "reject": "r", "score": 1})
    message = str(error.value)
    for part in (
        "a.jsonl",
        "prompt (text), chosen (text), reject (text), score (number)",
        "data.format",
        "Other formats: ",
    ):
        assert part in message
    lines = [line for line in message.splitlines() if line.startswith("  ")]
    assert len(lines) == 3
    assert lines[0].startswith("  strings (")
    assert lines[0].endswith("lacks rejected or rejected_response")
    assert all(name in message for name in FORMATS)


def test_columns_of_no_format_at_all() -> None:
    with pytest.raises(DataError, match="No known format has one of them"):
        converter({"a": 1})


def test_a_column_of_the_wrong_kind_is_named() -> None:
    with pytest.raises(DataError, match="chosen is number, expected text"):
        converter({"prompt": "q", "chosen": 1, "rejected": 2})


def test_a_named_format_is_used_even_where_another_fits() -> None:
    row = {"instruction": "do", "prompt": "q", "chosen": "c", "rejected": "r"}
    assert [converter(row).format.name, converter(row, format="alpaca_ranking").format.name] == [
        "strings",
        "alpaca_ranking",
    ]


def test_an_unknown_or_unsuitable_format_name_is_an_error() -> None:
    with pytest.raises(DataError, match=r"data\.format=shargpt is unknown \(did you mean sharegpt\?\)"):
        converter(STRINGS, format="shargpt")
    with pytest.raises(DataError, match=r"data\.format=openai needs the columns input, .*; a\.jsonl has prompt"):
        converter(STRINGS, format="openai")


def test_a_setting_without_effect_is_an_error_unless_another_source_uses_it() -> None:
    sources = [converter(MESSAGES, preference="safer"), converter(SAFER, preference="safer")]
    require_used(sources)
    with pytest.raises(
        DataError, match=r"data\.preference=safer would change nothing: the data has the format messages"
    ):
        require_used(sources[:1])
    with pytest.raises(DataError, match=r"data\.plain_text=raw and data\.ranked_pairs=best_rest"):
        require_used([converter(MESSAGES, plain_text="raw", ranked_pairs="best_rest")])
    require_used([converter({**STRINGS, "prompt": rows.CHATML}), converter(RANKED, ranked_pairs="best_rest")])


def test_convert_rows_counts_every_row(tmp_path: Path) -> None:
    lines = [RANKED, "broken", {**RANKED, "responses": ["a", "", ""]}, {**RANKED, "scores": [1, 1, 1]}]
    found = convert_rows(write(tmp_path / "a.jsonl", lines), FormatSettings())
    assert (found.rows_read, len(found.pairs), found.converter.format.name) == (4, 3, "ranked")
    assert [(r.source, r.reason) for r in found.rejects] == [
        ("a.jsonl:2", "invalid JSON"),
        ("a.jsonl:3", "empty answer"),
    ]
    assert [(r.source, r.reason) for r in found.dropped] == [("a.jsonl:4", "no preference")]


@pytest.mark.parametrize(("content", "part"), [("", "holds no rows"), ("x\n", "none of the first 1 rows.*a.jsonl:1")])
def test_a_file_without_a_readable_row_is_an_error(tmp_path: Path, content: str, part: str) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(DataError, match=part):
        convert_rows(Origin(path=str(tmp_path / "a.jsonl")), FormatSettings())


def test_the_system_column_gives_way_to_a_system_turn() -> None:
    assert convert({**MESSAGES, "system": "s"})[0].prompt == [system("s"), user("q")]
