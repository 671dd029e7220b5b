"""Which format rows have: by columns and values, or by name; and what is said where none fits."""

from itertools import permutations

import pytest
from format_rows import CHATML, HELPSTEER, MESSAGES, RANKED, SAFER, STRINGS, converter, converter_for

from dpo.data.formats.convert import Converter, require_used
from dpo.data.formats.settings import FormatSettings
from dpo.data.formats.table import FORMATS, choose_format
from dpo.errors import DataError

pytestmark = pytest.mark.unit


def used(converters: list[Converter]) -> None:
    require_used([(converter.format.name, converter.unused) for converter in converters])


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
    assert lines[0].endswith("lacks rejected (or rejected_response, rejected_answer, response_k, ...), is it reject?")
    assert all(name in message for name in FORMATS)


@pytest.mark.parametrize(
    ("row", "first"),
    [
        ({"promt": "q", "choosen": "c", "rejected": "r"}, "strings ("),  # not one of the others that lack less
        ({"prompt": "q", "responses": ["a", "b"]}, "most rows lack ranks, scores or dimensions that order the answers"),
        ({"messages": [{"role": "user", "content": "q"}]}, "swift ("),
        ({"prompt": "q", "completion": "a", "label": "good"}, "most rows lack a label that is true/false, or 1/0"),
    ],
)
def test_the_closest_format_comes_first_and_what_rows_lack_is_said(row: dict[str, object], first: str) -> None:
    with pytest.raises(DataError) as error:
        converter(row)
    line = next(line for line in str(error.value).splitlines() if line.startswith("  "))
    assert first in line


def test_columns_that_nothing_reads_are_told() -> None:
    row = {**STRINGS, "system": "s", "id": 7, "question": "q", "empty": None}
    assert converter(row).describe().endswith("; columns not read: id, question")
    assert "not read" not in converter({**STRINGS, "margin": 1, "tools": None}).describe()
    many = converter({**STRINGS, **{f"c{n}": n for n in range(10)}}).describe()
    assert many.endswith("not read: c0, c1, c2, c3, c4, c5, c6, c7 and 2 more")
    listed = [{**row, "id": n} for n, row in enumerate(HELPSTEER)]
    assert converter_for(listed, FormatSettings(), "a").describe().endswith("; columns not read: id")
    assert "not read" not in converter({**STRINGS, "chosen": " ", "id": 7}).describe()  # a bad row


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
    used(sources)
    with pytest.raises(
        DataError, match=r"data\.preference=safer would change nothing: the data has the format messages"
    ):
        used(sources[:1])
    with pytest.raises(DataError, match=r"data\.plain_text=raw and data\.ranked_pairs=best_rest"):
        used([converter(MESSAGES, plain_text="raw", ranked_pairs="best_rest")])
    used([converter({**STRINGS, "prompt": CHATML}), converter(RANKED, ranked_pairs="best_rest")])
