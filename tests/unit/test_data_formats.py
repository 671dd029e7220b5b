"""Formats: recognised by their columns and values, converted to messages, and every bad row told by its reason."""

import pickle
from pathlib import Path

import pytest
from format_rows import (
    CHATML,
    HELPSTEER,
    MESSAGES,
    RANKED,
    SAFER,
    SAMPLES,
    STRINGS,
    Sample,
    answer,
    convert,
    converter,
    raw,
    rendered,
    system,
    text_of,
    told,
    user,
    write,
)

from dpo.data.formats.adjacent import MOST, joined
from dpo.data.formats.convert import Converter, convert_rows, converter_for
from dpo.data.formats.encoded import decoded, encoded_columns
from dpo.data.formats.format import columns_of
from dpo.data.formats.settings import FormatSettings
from dpo.data.formats.table import FORMATS
from dpo.data.pair import Reject
from dpo.data.read.files import Origin, Row
from dpo.errors import DataError

pytestmark = pytest.mark.unit


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


def test_plain_text_is_a_user_turn_or_goes_on() -> None:
    assert convert(STRINGS, plain_text="raw")[0].prompt == [raw("q")]
    assert convert({**STRINGS, "system": "s"}, plain_text="raw")[0].prompt == [raw("s\n\nq")]
    sky = {"chosen": "The sky is blue.", "rejected": "The sky is bleak."}
    (pair,) = convert(sky, plain_text="raw")
    assert (pair.prompt, text_of(pair.chosen), text_of(pair.rejected)) == ([raw("The sky is")], " blue.", " bleak.")
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
    assert found.pairs(Row(values={**STRINGS, "prompt": prompt}, source="a:1"))[0].prompt == [rendered(prompt)]
    assert "chat markers already" in found.describe()


def test_markers_in_the_middle_of_a_prompt_are_text() -> None:
    assert convert({**STRINGS, "prompt": f"what is {CHATML}"})[0].prompt[0]["role"] == "user"


def test_a_prompt_is_rendered_where_the_setting_says_so() -> None:
    assert convert(STRINGS, plain_text="rendered")[0].prompt == [rendered("q")]
    assert "control tokens are meant" in converter(STRINGS, plain_text="rendered").describe()
    assert convert({**STRINGS, "prompt": CHATML}, plain_text="raw")[0].prompt == [rendered(CHATML)]
    mixed = converter_for([STRINGS, STRINGS, {**STRINGS, "prompt": CHATML}], FormatSettings(plain_text="raw"), "a")
    row = Row(values={**STRINGS, "prompt": CHATML}, source="a:3")
    assert mixed.pairs(row)[0].prompt == [raw(CHATML)]  # one among others may be quoted or injected


def test_few_rendered_prompts_are_no_reason_to_trust_markers() -> None:
    found = converter_for([STRINGS, STRINGS, {**STRINGS, "prompt": CHATML}], FormatSettings(), "a")
    assert found.settings.plain_text == "user_turn"


def test_the_label_of_saferlhf_is_a_setting() -> None:
    assert told(convert(SAFER)) == [("a", "b", None)]
    assert told(convert(SAFER, preference="safer")) == [("b", "a", None)]
    assert "the safer answer is chosen (data.preference)" in converter(SAFER, preference="safer").describe()
    assert "pairs of a list: all (data.ranked_pairs)" in converter(RANKED).describe()


@pytest.mark.parametrize("given", [{"think": False, "name": None}, '{"think": false}'])  # null: of an Arrow table
def test_arguments_of_the_row_for_the_template(given: object) -> None:
    (pair,) = convert({**MESSAGES, "chat_template_kwargs": given})
    assert pair.template_arguments == {"think": False}
    assert convert({**MESSAGES, "chat_template_kwargs": {"name": None}})[0].template_arguments is None


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


def test_the_system_column_gives_way_to_a_system_turn() -> None:
    assert convert({**MESSAGES, "system": "s"})[0].prompt == [system("s"), user("q")]


@pytest.mark.parametrize("name", FORMATS)
def test_a_converter_can_be_sent_to_another_process(name: str) -> None:
    reading = Converter(format=FORMATS[name], settings=FormatSettings(), dataset="x")
    again = pickle.loads(pickle.dumps(reading))
    row = next((sample.row for sample in SAMPLES if sample.format == name), {"prompt": "q", "responses": HELPSTEER[:2]})
    assert again.pairs(Row(values=row, source="a:1")) == reading.pairs(Row(values=row, source="a:1"))
    assert again.dataset == "x"


def test_convert_rows_counts_every_row(tmp_path: Path) -> None:
    lines = [RANKED, "broken", {**RANKED, "responses": ["a", "", ""]}, {**RANKED, "scores": [1, 1, 1]}]
    found = convert_rows(write(tmp_path / "a.jsonl", lines), FormatSettings())
    assert (found.rows_read, len(found.pairs), found.converter.format.name) == (4, 3, "ranked")
    assert [(r.source, r.reason) for r in found.rejects] == [
        ("a.jsonl:2", "invalid JSON"),
        ("a.jsonl:3", "empty answer"),
    ]
    assert [(r.source, r.reason) for r in found.dropped] == [("a.jsonl:4", "no preference")]


@pytest.mark.parametrize(("content", "part"), [("", "holds no rows"), ("x\n", "no row of .* can be read.*a.jsonl:1")])
def test_a_file_without_a_readable_row_is_an_error(tmp_path: Path, content: str, part: str) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(DataError, match=part):
        convert_rows(Origin(path=str(tmp_path / "a.jsonl")), FormatSettings())
