"""Prepared pairs on disk: read back as they were, found again, made anew when anything has changed, never half."""

import json
import logging
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_tokenizers import CHATML, tiny_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from dpo.config.schema import DataConfig
from dpo.data.pair import Dropped, Pair, Reject, TokenizedPair
from dpo.data.prepare import data_recipes, obtain_all
from dpo.data.read.files import Row
from dpo.data.store import obtain, pool, recipe, work, write
from dpo.data.store.columns import FIXED, KEYS, LISTS, Record, batch_of
from dpo.data.store.file import ArrowFile
from dpo.data.store.manifest import FILE, Manifest, Tally
from dpo.data.store.obtain import Place
from dpo.data.store.pairs import PairList, PairStore, PairView, Source
from dpo.data.store.recipe import Tools
from dpo.data.store.work import Chunk, Done, Work, chunks
from dpo.data.store.write import Writer
from dpo.data.text.limits import TokenLimits
from dpo.data.text.template import choose_template
from dpo.errors import DataError, EnvironmentProblem
from dpo.preempt import Stopped

pytestmark = pytest.mark.unit


def a_pair(number: int, **change: Any) -> TokenizedPair:
    draw = random.Random(number)
    ids = [[draw.randrange(50_000) for _ in range(draw.randrange(1, 30))] for _ in range(3)]
    values = {
        "prompt_ids": ids[0],
        "chosen_ids": ids[1],
        "rejected_ids": ids[2],
        "chosen_context": ((0, 1), (3, 9)) if number % 3 == 0 else (),
        "rejected_context": ((2, 4),) if number % 4 == 0 else (),
        "cut": (("prompt",), (), ("chosen", "rejected"))[number % 3],
        "whole": ((40, 50, 60), None, (9, 70, 80))[number % 3],
        "source": f"päirs.jsonl:{number}",
        "dataset": "given",
        "id": f"{draw.getrandbits(64):016x}",
        "margin": None if number % 2 else draw.random(),
        "reference": None if number % 5 else (-draw.random(), -draw.random()),
    }
    return TokenizedPair(**{**values, **change})


PAIRS = [a_pair(number) for number in range(50)]


def written(folder: Path, pairs: list[TokenizedPair], batch: int = 7) -> Source:
    """A source with these pairs, `batch` of them to a record batch."""
    with Writer(folder) as writer:
        for begin in range(0, len(pairs), batch):
            some = pairs[begin : begin + batch]
            records = [Record(pair=pair, row=begin + i) for i, pair in enumerate(some)]
            tally = Tally(pairs=len(some), supplied=sum(pair.reference is not None for pair in some))
            writer.add(Done(tally=tally, batch=batch_of(records), lost=[]))
        writer.finish({}, None)
    return Source(folder=folder, name="given", label="given", manifest=Manifest.read(folder))


@pytest.mark.parametrize("part_pairs", [10, 1000])
def test_every_pair_is_read_back_as_it_was(part_pairs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "PART_PAIRS", part_pairs)
    store = PairStore([written(tmp_path / "a", PAIRS[:33]), written(tmp_path / "b", PAIRS[33:])])
    assert list(store) == PAIRS
    assert store[-1] == PAIRS[-1] and store.source(3) == PAIRS[3].source
    with pytest.raises(IndexError):
        store[50]
    view = PairView(store=store, rows=np.array([49, 0, 0, 40]))
    assert list(view) == [PAIRS[49], PAIRS[0], PAIRS[0], PAIRS[40]]


def test_columns_are_those_of_pairs_in_memory(tmp_path: Path) -> None:
    store, memory = PairStore([written(tmp_path / "a", PAIRS)]), PairList(PAIRS)
    for name in (*(name for name in FIXED if name != "row"), KEYS):
        np.testing.assert_array_equal(store.column(name), memory.column(name), err_msg=name)
    assert store.column("row").tolist() == list(range(50))
    for name in LISTS[:3]:
        assert store.lengths(name).tolist() == [len(getattr(pair, name)) for pair in PAIRS]
    view = PairView(store=store, rows=np.array([9, 3]))
    assert view.column("id").tolist() == [int(PAIRS[9].id, 16), int(PAIRS[3].id, 16)]
    assert view.lengths("prompt_ids").tolist() == [len(PAIRS[9].prompt_ids), len(PAIRS[3].prompt_ids)]
    assert store.supplied and memory.supplied and not PairList(PAIRS[1:5]).supplied


def test_data_sets_are_counted_by_name(tmp_path: Path) -> None:
    sources = [written(tmp_path / name, PAIRS[:3]) for name in "abc"]
    sources[1].name = "other"
    store = PairStore(sources)
    assert store.names == ["given", "other"]
    assert store.column("dataset").tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0]
    assert [pair.dataset for pair in store][2:4] == ["given", "other"]


@settings(max_examples=25, deadline=None)
@given(pairs_per_row=st.lists(st.integers(0, 3), min_size=1, max_size=12), data=st.data())
def test_rows_are_counted_once(pairs_per_row: list[int], data: st.DataObject, tmp_path_factory: Any) -> None:
    """A row that gave several pairs is one row, in whatever file or batch they stand."""
    rows = [row for row, count in enumerate(pairs_per_row) for _ in range(count)]
    folder = tmp_path_factory.mktemp("store")
    with Writer(folder / "a") as writer:
        for begin in range(0, len(rows), 3):
            records = [Record(pair=PAIRS[0], row=row) for row in rows[begin : begin + 3]]
            writer.add(Done(tally=Tally(pairs=len(records)), batch=batch_of(records), lost=[]))
        writer.finish({}, None)
    source = Source(folder=folder / "a", name="a", label="a", manifest=Manifest.read(folder / "a"))
    store = PairStore([source, source])
    chosen = data.draw(st.sets(st.integers(0, 2 * len(rows) - 1)) if rows else st.just(set()))
    expected = {(number >= len(rows), rows[number % len(rows)]) for number in chosen} if rows else set()
    assert store.rows_of(np.array(sorted(chosen), np.int64)) == len(expected)


def test_storage_that_is_gone_is_an_error_in_words(tmp_path: Path) -> None:
    source = written(tmp_path / "a", PAIRS)
    file = ArrowFile(source.folder / source.manifest.parts[0].file)
    with (source.folder / source.manifest.parts[0].file).open("r+b") as open_file:
        open_file.truncate(100)
    with pytest.raises(EnvironmentProblem, match="prepared again"):
        file.ints("prompt_ids", 40)


# From rows to the store.


class Letters:
    """Stands in for a converter: each row says what becomes of it, one letter per pair."""

    def pairs(self, row: Row) -> list[Pair] | Reject:
        letters = row.values["pairs"]
        if letters == "?":
            return Dropped(source=row.source, reason="no preference", detail="as asked")
        if not letters:
            return Reject(source=row.source, reason="no pair", detail="as asked")
        return [_of_letter(letter, row.source, i) for i, letter in enumerate(letters)]


def _of_letter(letter: str, source: str, number: int) -> Pair:
    """k: kept, l: too long, s: the same tokens on both sides."""
    chosen = {"k": f"yes {number}", "l": "long " * 50, "s": "same"}[letter]
    turn = [{"role": "assistant", "content": chosen}]
    other = turn if letter == "s" else [{"role": "assistant", "content": "no"}]
    return Pair(prompt=[{"role": "user", "content": "?"}], chosen=turn, rejected=other, source=source)


def some_work(converter: Any = None) -> Work:
    tokenizer = tiny_tokenizer(template=CHATML)
    return Work(
        converter=converter or Letters(),
        tokenizer=tokenizer,
        template=choose_template(tokenizer, "auto"),
        limits=TokenLimits(max_length=100),
    )


def letter_rows(texts: list[str]) -> list[Row | Reject]:
    return [
        Reject(source=f"a:{i}", reason="invalid JSON", detail="")
        if text == "!"
        else Row(values={"pairs": text}, source=f"a:{i}")
        for i, text in enumerate(texts)
    ]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(st.sampled_from("!?"), st.text("kls", max_size=3)), max_size=12))
def test_every_row_has_one_fate_and_every_lost_pair_a_line(texts: list[str]) -> None:
    done = some_work().do(Chunk(first=7, items=letter_rows(texts)))
    tally = done.tally
    fates = ["accepted" if "k" in t else "dropped" if t == "?" or set(t) == {"l"} else "rejected" for t in texts]
    assert (tally.accepted, tally.rejected, tally.dropped) == tuple(
        fates.count(fate) for fate in ("accepted", "rejected", "dropped")
    )
    assert tally.rows_read == tally.accepted + tally.rejected + tally.dropped == len(texts)
    letters = "".join(texts)
    assert tally.pairs == letters.count("k") == (done.batch.num_rows if done.batch else 0)
    assert (len(tally.too_long), len(tally.left_out)) == (letters.count("l"), letters.count("?"))
    assert len(tally.rejects) == letters.count("s") + letters.count("!") + texts.count("")
    assert [int(reject.source[2:]) for reject in done.lost] == sorted(int(reject.source[2:]) for reject in done.lost)
    assert len(done.lost) == sum(len(lost) for lost in tally.all_lost)
    rows = [i + 7 for i, text in enumerate(texts) for letter in text if letter == "k"]
    assert (done.batch.column("row").to_pylist() if done.batch else []) == rows


def test_a_fault_of_the_program_names_the_row() -> None:
    class Broken(Letters):
        def pairs(self, row: Row) -> list[Pair] | Reject:
            if row.source == "a:3":
                raise ZeroDivisionError("oops")
            return super().pairs(row)

    with pytest.raises(ZeroDivisionError, match="oops") as caught:
        some_work(Broken()).do(Chunk(first=0, items=letter_rows(["k"] * 5)))
    assert caught.value.__notes__ == ["while a:3 was converted"]


def test_a_fault_in_tokenizing_names_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    right = work.tokenize_pairs

    def broken(pairs: list[Pair], *rest: Any) -> Iterator[Any]:
        if any(pair.source == "a:2" for pair in pairs):
            raise ZeroDivisionError("oops")
        return right(pairs, *rest)

    monkeypatch.setattr(work, "tokenize_pairs", broken)
    with pytest.raises(ZeroDivisionError) as caught:
        some_work().do(Chunk(first=0, items=letter_rows(["k"] * 5)))
    assert "while a:2 was tokenized" in caught.value.__notes__


def test_chunks_end_by_rows_or_by_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "CHUNK_ROWS", 4)
    monkeypatch.setattr(work, "CHUNK_CHARACTERS", 100)
    texts = ["k"] * 6 + ["k" * 90] + ["k"] * 30
    found = list(chunks(letter_rows(texts)))
    assert [len(chunk.items) for chunk in found] == [4, 4, 4, 4, 4, 4, 4, 4, 4, 1]
    nested = [Row(values={"a": [{"b": "x" * 60}]}, source=str(i)) for i in range(5)]
    assert [(chunk.first, len(chunk.items)) for chunk in chunks(nested)] == [(0, 2), (2, 2), (4, 1)]
    assert list(chunks([])) == []


# Found again, or made anew.


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """What the log says since the last call."""
    monkeypatch.setattr(logging.getLogger("dpo"), "propagate", True)
    caplog.set_level(logging.INFO)

    def since() -> str:
        text = caplog.text
        caplog.clear()
        return text

    return since


@pytest.fixture
def written_times(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folder of every preparation."""
    found: list[Path] = []
    right = obtain._write
    monkeypatch.setattr(
        obtain, "_write", lambda recipe, folder, place: found.append(folder) or right(recipe, folder, place)
    )
    return found


def write_rows(path: Path, count: int) -> str:
    rows = [{"prompt": f"q{n}", "chosen": f"yes {n}", "rejected": "no"} for n in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def some_tools(**limits: Any) -> Tools:
    tokenizer = tiny_tokenizer(template=limits.pop("template", CHATML))
    return Tools(
        tokenizer=tokenizer,
        template=choose_template(tokenizer, "auto"),
        limits=TokenLimits(**{"max_length": 999, **limits}),
    )


def prepared(config: DataConfig, place: Place, **limits: Any) -> Path:
    """The folder of the one source."""
    recipes = data_recipes(config, some_tools(**limits))
    digests = [recipe.digest(place.cache) for recipe in recipes]
    obtain_all(recipes, digests, place)
    return place.folder(digests[0])


def test_prepared_once_and_found_again(tmp_path: Path, written_times: list[Path]) -> None:
    config, place = DataConfig(path=write_rows(tmp_path / "a.jsonl", 5)), Place(cache=tmp_path / "cache")
    folder = prepared(config, place)
    assert prepared(replace(config, on_bad_row="skip", workers=3, eval_path=None), place) == folder
    (tmp_path / "a.jsonl").touch()
    assert prepared(config, place) == folder
    assert len(written_times) == 1
    assert sorted(path.name for path in folder.iterdir()) == [FILE, "pairs-00000.arrow", "rejects.jsonl"]
    assert not list(place.cache.glob(".*.tmp"))


CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {  # settings, tools, what the log names
    "limit": ({"limit": 4}, {}, "settings.limit"),
    "format": ({"format": "strings"}, {}, "source.format"),
    "max_length": ({}, {"max_length": 90}, "limits.max_length"),
    "template": ({}, {"template": CHATML.replace("assistant", "Assistant")}, "tokenizer"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_made_anew_when_something_decides_otherwise(
    name: str, tmp_path: Path, written_times: list[Path], said: Callable[[], str]
) -> None:
    config, place = DataConfig(path=write_rows(tmp_path / "a.jsonl", 5)), Place(cache=tmp_path / "cache")
    before = prepared(config, place)
    change, limits, named = CHANGES[name]
    assert prepared(replace(config, **change), place, **limits) != before
    assert named in said() and len(written_times) == 2
    assert prepared(config, place) == before and len(written_times) == 2  # both are kept


def test_made_anew_when_the_file_holds_something_else(
    tmp_path: Path, written_times: list[Path], said: Callable[[], str]
) -> None:
    config, place = DataConfig(path=write_rows(tmp_path / "a.jsonl", 5)), Place(cache=tmp_path / "cache")
    prepared(config, place)
    write_rows(tmp_path / "a.jsonl", 6)
    prepared(config, place)
    assert "source.files" in said() and len(written_times) == 2


def test_made_anew_by_another_version_of_the_program(
    tmp_path: Path, written_times: list[Path], said: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, place = DataConfig(path=write_rows(tmp_path / "a.jsonl", 5)), Place(cache=tmp_path / "cache")
    prepared(config, place)
    monkeypatch.setattr(recipe, "DATA_VERSION", -1)
    prepared(config, place)
    assert "versions.data" in said() and len(written_times) == 2


@pytest.mark.parametrize("name", ["pairs-00000.arrow", FILE])
@pytest.mark.parametrize("how", ["shorter", "one bit", "gone"])
def test_what_is_damaged_is_made_anew(
    name: str, how: str, tmp_path: Path, written_times: list[Path], said: Callable[[], str]
) -> None:
    config, place = DataConfig(path=write_rows(tmp_path / "a.jsonl", 5)), Place(cache=tmp_path / "cache")
    folder = prepared(config, place)
    right = (folder / "pairs-00000.arrow").read_bytes()
    file = folder / name
    data = bytearray(file.read_bytes())
    if how == "gone":
        file.unlink()
    else:
        data[len(data) // 2] ^= 0 if how == "shorter" else 128
        file.write_bytes(data[:-9] if how == "shorter" else data)
    assert prepared(config, place) == folder
    assert "damaged" in said() and len(written_times) == 2
    assert (folder / "pairs-00000.arrow").read_bytes() == right


def test_whoever_finds_everything_needs_no_right_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, place = DataConfig(path=write_rows(tmp_path / "a.jsonl", 5)), Place(cache=tmp_path / "cache")
    prepared(config, place)

    class Forbidden:
        def __init__(self, *_: Any) -> None:
            raise AssertionError("a lock was asked for")

    monkeypatch.setattr(obtain, "RunLock", Forbidden)
    prepared(config, place)


@pytest.mark.parametrize("error", [Stopped("asked to"), OSError(28, "No space left on device"), DataError("no rows")])
def test_nothing_is_left_of_half_a_preparation(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, place = DataConfig(path=write_rows(tmp_path / "a.jsonl", 5)), Place(cache=tmp_path / "cache")

    def failing(writer: Writer, done: Done) -> None:
        raise error

    right = Writer.add
    monkeypatch.setattr(Writer, "add", failing)
    with pytest.raises((type(error), EnvironmentProblem)) as caught:
        prepared(config, place)
    assert "data.cache_dir" in str(caught.value) or not isinstance(error, OSError)
    assert [path.name for path in place.cache.iterdir() if path.is_dir()] == []
    monkeypatch.setattr(Writer, "add", right)
    assert prepared(config, place).is_dir()


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    config, place = DataConfig(path=write_rows(tmp_path / "a.jsonl", 5)), Place(cache=tmp_path / "cache")
    (recipe_,) = data_recipes(config, some_tools())
    name = place.folder(recipe_.digest(place.cache)).name
    (place.cache / f".{name}.0123abcd.tmp").mkdir(parents=True)
    other = place.cache / ".fedcba9876543210.0123abcd.tmp"  # of another source, which may be under way
    other.mkdir()
    prepared(config, place)
    assert list(place.cache.glob(".*.tmp")) == [other]


def test_other_files_on_another_machine_are_refused(tmp_path: Path) -> None:
    """What the main worker has read names the folder; this machine has the file, but not that one."""
    config, place = DataConfig(path=write_rows(tmp_path / "a.jsonl", 5)), Place(cache=tmp_path / "cache")
    with pytest.raises(DataError, match=r"a\.jsonl is not the same for all workers"):
        obtain_all(data_recipes(config, some_tools()), ["0" * 64], place)


def test_the_others_wait_for_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, place = DataConfig(path=write_rows(tmp_path / "a.jsonl", 5)), Place(cache=tmp_path / "cache")
    waited = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            prepared(config, place)

    monkeypatch.setattr(obtain.time, "sleep", sleep)
    assert (prepared(config, replace(place, prepares=False)) / FILE).is_file()
    assert len(waited) == 3


# Through a pool of processes.


def pool_chunks(texts: list[str]) -> list[Chunk]:
    return list(chunks(letter_rows(texts)))


def test_a_pool_gives_what_one_process_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "CHUNK_ROWS", 3)
    texts = ["k", "kl", "", "!", "s", "kk", "l", "?"] * 12
    alone = list(pool.through_pool(pool_chunks(texts), some_work(), 1))
    shared = list(pool.through_pool(pool_chunks(texts), some_work(), 2))
    assert len(alone) > pool.ALONE
    assert [done.tally for done in shared] == [done.tally for done in alone]
    assert [done.lost for done in shared] == [done.lost for done in alone]
    assert all(a.batch.serialize() == b.batch.serialize() for a, b in zip(alone, shared, strict=True) if a.batch)


def test_no_process_is_started_for_a_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "ProcessPoolExecutor", None)
    assert len(list(pool.through_pool(pool_chunks(["k"] * 9), some_work(), 16))) == 1
