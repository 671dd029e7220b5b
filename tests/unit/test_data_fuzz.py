"""Whatever bytes a file holds and whatever values its rows: a `DataError`, or every row accounted for."""

import bz2
import gzip
import json
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from data_prepared import prepared
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dpo.config.schema import DataConfig
from dpo.data.formats.convert import convert_rows
from dpo.data.formats.settings import FormatSettings
from dpo.data.formats.table import FORMATS
from dpo.data.pair import Message
from dpo.data.read.files import READERS, read_rows
from dpo.data.read.origin import Origin, Row
from dpo.errors import DataError

FUZZ = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
FEW = settings(FUZZ, max_examples=25)
MANY = settings(FUZZ, max_examples=100)
TEXTS = st.text(st.characters(codec=None), max_size=12) | st.sampled_from(
    ["", " ", "\0", "\ud800", "<|im_end|>", "\n\nHuman: a\n\nAssistant: b", "\r\n", "1", "-inf", "é😀"]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from([10**400, -(10**20), 1e308]) | TEXTS
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=8
)
ROLES = st.sampled_from(["system", "user", "assistant", "tool", "human", "gpt", "function_call", "boss", 7, None])
CONTENTS = TEXTS | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": TEXTS}), max_size=2) | ANYTHING
TURNS = st.lists(
    st.fixed_dictionaries({"role": ROLES, "content": CONTENTS}, optional={"tool_calls": ANYTHING, "weight": SCALARS})
    | st.fixed_dictionaries({"from": ROLES, "value": CONTENTS})
    | ANYTHING,
    max_size=4,
)
PLAUSIBLE = TEXTS | TURNS | st.lists(TEXTS, max_size=4) | st.lists(st.integers(0, 300), max_size=6) | ANYTHING
OPTIONAL = ("prompt", "system", "input", "tools", "margin", "dimensions", "ref_chosen_logps", "ref_rejected_logps")


def is_text(messages: list[Message]) -> bool:
    """Whether everything in them is text that UTF-8 can hold."""
    return json.dumps(messages, ensure_ascii=False).encode("utf-8") is not None


def account(path: Path, form: str = "auto") -> None:
    """Read and prepare, and hold the outcome to what is promised of any file: a `DataError`, or every row told."""
    found, said = None, ""
    try:
        found = convert_rows(Origin(path=str(path)), FormatSettings(format=form))
    except DataError as error:
        said = str(error)
    if found is None:
        assert path.name in said or "data." in said
        with pytest.raises(DataError):
            prepared(DataConfig(path=str(path), format=form), 0.3, path.parent / "cache")
        return
    lost = [*found.rejects, *found.dropped]
    assert all(reject.source and reject.reason and reject.detail for reject in lost)
    assert len({pair.source for pair in found.pairs}) + len(lost) == found.rows_read
    for pair in found.pairs:
        assert is_text([*pair.prompt, *pair.chosen, *pair.rejected])
        assert pair.prompt and (pair.chosen or pair.rejected) and pair.chosen != pair.rejected
    check_tokens(path, form, found.rows_read)


def check_tokens(path: Path, form: str, rows_read: int) -> None:
    found, said = None, ""
    try:
        found = prepared(DataConfig(path=str(path), format=form), 0.3, path.parent / "cache", max_length=200)
    except DataError as error:
        said = str(error)
    if found is None:
        assert "no training pair is left" in said
        return
    assert found.rows_read == rows_read
    assert all(pair.prompt_ids and (pair.chosen_ids or pair.rejected_ids) for pair in (*found.train, *found.held_out))


GOOD = [
    {"prompt": f"é {n}", "chosen": [{"role": "assistant", "content": "yes" * n}], "rejected": [], "margin": n / 2}
    for n in range(1, 8)
]
PLAIN = [{"prompt": f"é {n}", "chosen": 'say, "yes"\n', "rejected": "no"} for n in range(7)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in PLAIN)
CSV = "prompt,chosen,rejected\n" + "".join(f'é {n},"say, ""yes""\n",no\n' for n in range(7))
TABLES = ("a.parquet", "a.feather", "a.arrow")
WHOLE = {
    "a.jsonl": LINES.encode(),
    "a.json": json.dumps(PLAIN, ensure_ascii=False, indent=1).encode(),
    "b.json": json.dumps({"data": PLAIN}).encode(),
    "a.csv": CSV.encode(),
    "a.tsv": CSV.replace(",", "\t").replace("say\t", "say,").encode(),
    "a.jsonl.gz": gzip.compress(LINES.encode()),
    "a.json.bz2": bz2.compress(LINES.encode()),
}


@cache
def whole(name: str) -> bytes:
    """A sound file of this name."""
    if name in WHOLE:
        return WHOLE[name]
    sink = pa.BufferOutputStream()
    found = pa.Table.from_pylist(GOOD)
    if name == "a.parquet":
        pq.write_table(found, sink, row_group_size=3)
    elif name == "a.feather":
        pyarrow.feather.write_feather(found, sink)
    else:
        with pa.ipc.new_stream(sink, found.schema) as writer:
            writer.write_table(found, max_chunksize=3)
    return sink.getvalue().to_pybytes()


NAMES = [*WHOLE, *TABLES]


@pytest.mark.parametrize("suffix", READERS)
@MANY
@given(data=st.binary(max_size=60))
def test_any_bytes(tmp_path: Path, suffix: str, data: bytes) -> None:
    (tmp_path / f"a{suffix}").write_bytes(data)
    account(tmp_path / f"a{suffix}")


SYNTAX = [*'{}[]",:\\\n\t ', "\\u", "NaN", "1e9", '"a":', "\ufeff", "\ud800", '{"data":[{']


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv"])
@MANY
@given(pieces=st.lists(st.sampled_from(SYNTAX) | TEXTS))
def test_anything_that_looks_like_the_syntax(tmp_path: Path, suffix: str, pieces: list[str]) -> None:
    (tmp_path / f"a{suffix}").write_bytes("".join(pieces).encode("utf-8", "surrogatepass"))
    account(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("name", NAMES)
@FEW
@given(data=st.data())
def test_a_sound_file_that_is_cut_or_overwritten(tmp_path: Path, name: str, data: st.DataObject) -> None:
    sound = bytearray(whole(name))
    for place, byte in data.draw(st.lists(st.tuples(st.integers(0, len(sound) - 1), st.integers(0, 255)), max_size=3)):
        sound[place] = byte
    (tmp_path / name).write_bytes(sound[: data.draw(st.integers(0, len(sound)))])
    account(tmp_path / name)


@pytest.mark.parametrize("name", NAMES)
def test_the_sound_file_is_read_whole(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(whole(name))
    rows = list(read_rows(Origin(path=str(tmp_path / name))))
    assert [row.values for row in rows if isinstance(row, Row)] == (GOOD if name in TABLES else PLAIN)


def check_any_values(folder: Path, form: str, data: st.DataObject) -> None:
    columns = [name for names in FORMATS[form].columns for name in names.split("|")]
    full = st.fixed_dictionaries(dict.fromkeys(columns, PLAUSIBLE))
    some = st.fixed_dictionaries({}, optional=dict.fromkeys([*columns, *OPTIONAL], PLAUSIBLE))
    rows = data.draw(st.lists(full | some, min_size=1, max_size=4))
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    account(folder / "a.jsonl", form)
    account(folder / "a.jsonl")


@MANY
@given(form=st.sampled_from(sorted(FORMATS)), data=st.data())
def test_any_values_in_the_columns_of_a_format(tmp_path: Path, form: str, data: st.DataObject) -> None:
    check_any_values(tmp_path, form, data)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
@settings(FUZZ, max_examples=500)
@given(data=st.data())
def test_any_values_in_the_columns_of_every_format(tmp_path: Path, form: str, data: st.DataObject) -> None:
    check_any_values(tmp_path, form, data)
