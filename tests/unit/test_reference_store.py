"""What is kept on disk: found again by content, whole or set aside, and removed without touching anything else."""

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from dpo.data.batch import PromptGroup
from dpo.errors import CacheError, EnvironmentProblem
from dpo.reference.keys import response_keys
from dpo.reference.listing import list_kept, remove_kept, verify_kept
from dpo.reference.store import Fingerprint, Store, Values, parts_of

pytestmark = pytest.mark.unit


def store(folder: Path, digest: str = "ab" * 32) -> Store:
    return Store(folder, Fingerprint(digest=digest, model="some/model", parts={"precision": "fp32"}))


def group(prompt: list[int], *responses: list[int]) -> PromptGroup:
    return PromptGroup(prompt_ids=prompt, responses=list(responses), pairs=[], pair_ids=[], sources=["a:1"])


def values(*numbers: int) -> Values:
    keys = response_keys([group([1], [n]) for n in numbers])
    return Values(keys=keys, logps=np.array(numbers, np.float32), tokens=np.ones(len(numbers), np.int32))


def test_a_key_is_the_tokens_and_where_the_response_begins() -> None:
    same = response_keys([group([1, 2], [3, 4], [3]), group([1, 2], [3, 4])])
    assert same[0] == same[2] != same[1]
    different = [group([1, 2], [3, 4]), group([1, 2, 3], [4]), group([1], [2, 3, 4]), group([2, 1], [3, 4])]
    assert len(set(response_keys(different).tolist())) == 4
    assert response_keys([]).shape == (0,)


def test_values_come_back_and_what_is_not_there_is_nan(tmp_path: Path) -> None:
    store(tmp_path).append(values(5, 3))
    store(tmp_path).append(values(9))
    found = store(tmp_path).lookup(values(3, 4, 9, 5).keys)
    np.testing.assert_array_equal(found, np.array([3, np.nan, 9, 5], np.float32))
    assert np.isnan(store(tmp_path, "cd" * 32).lookup(values(3).keys)).all()  # another model's


def test_looking_up_leaves_no_trace(tmp_path: Path) -> None:
    assert np.isnan(store(tmp_path).lookup(values(1).keys)).all()
    assert list(tmp_path.iterdir()) == []


def test_of_a_value_computed_twice_the_first_stays(tmp_path: Path) -> None:
    first, second = values(1, 2), values(2, 1)
    second.logps = second.logps + np.float32(0.5)
    store(tmp_path).append(first)
    store(tmp_path).append(second)
    np.testing.assert_array_equal(store(tmp_path).lookup(values(1, 2).keys), [1, 2])


@pytest.mark.parametrize("fault", ["cut", "flipped", "empty"])
def test_a_damaged_part_is_set_aside_with_a_warning(
    fault: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("dpo"), "propagate", True)
    kept = store(tmp_path)
    kept.append(values(1, 2))
    kept.append(values(3))
    first = parts_of(kept.folder)[0]
    data = bytearray(first.read_bytes())
    data[-9] ^= 1
    first.write_bytes({"cut": data[:-20], "flipped": data, "empty": b""}[fault])
    text, whole = verify_kept(tmp_path, "all")
    assert not whole and first.name in text
    np.testing.assert_array_equal(kept.lookup(values(1, 2, 3).keys), np.array([np.nan, np.nan, 3], np.float32))
    assert first.name in caplog.text and "computed again" in caplog.text
    assert first.with_name(first.name + ".damaged").exists() and not first.exists()
    kept.append(values(1, 2))
    np.testing.assert_array_equal(kept.lookup(values(1, 2, 3).keys), [1, 2, 3])
    assert verify_kept(tmp_path, "all")[1]


def test_a_part_that_is_still_being_written_is_not_read(tmp_path: Path) -> None:
    kept = store(tmp_path)
    kept.append(values(1))
    whole = parts_of(kept.folder)[0]
    whole.rename(whole.with_name(f".{whole.name}.tmp"))
    assert np.isnan(kept.lookup(values(1).keys)).all()


def test_many_write_and_read_at_once(tmp_path: Path) -> None:
    def work(i: int) -> bool:
        own = store(tmp_path)
        own.append(values(*range(i, i + 20)))
        return bool((own.lookup(values(*range(i, i + 20)).keys) == np.arange(i, i + 20)).all())

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(work, range(64)))
    assert not np.isnan(store(tmp_path).lookup(values(*range(83)).keys)).any()
    assert [path.name for path in store(tmp_path).folder.iterdir() if path.name.endswith(".tmp")] == []


def test_a_folder_that_cannot_be_written_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentProblem, match=r"reference\.cache_dir"):
        store(tmp_path / "file").append(values(1))


def test_ls_tells_what_is_there(tmp_path: Path) -> None:
    assert "nothing is kept" in list_kept(tmp_path / "none")
    store(tmp_path).append(values(1, 2))
    store(tmp_path).append(values(2, 3))
    store(tmp_path, "cd" * 32).append(values(7))
    lines = list_kept(tmp_path).splitlines()
    assert lines[1].split()[:4] == ["fingerprint", "model", "precision", "responses"]
    assert lines[2].split()[:5] == ["ab" * 8, "some/model", "fp32", "3", "4"]  # 3 different responses, 4 tokens stored
    assert lines[3].split()[:5] == ["cd" * 8, "some/model", "fp32", "1", "1"]


def test_rm_removes_what_is_named_and_nothing_else(tmp_path: Path) -> None:
    cache, outside = tmp_path / "cache", tmp_path / f"outside-{'ef' * 8}"
    store(cache).append(values(1))
    store(cache, "cd" * 32).append(values(1))
    outside.mkdir()
    (outside / "part-1.safetensors").write_text("mine")
    (cache / outside.name).symlink_to(outside)
    (cache / "notes").mkdir()
    (store(cache).folder / "notes.txt").write_text("mine")
    assert "notes.txt" in remove_kept(cache, "ab")
    assert [path.name for path in store(cache).folder.iterdir()] == ["notes.txt"]
    assert not np.isnan(store(cache, "cd" * 32).lookup(values(1).keys)).any()
    remove_kept(cache, "all")
    assert not store(cache, "cd" * 32).folder.exists()
    assert (outside / "part-1.safetensors").exists() and (cache / "notes").exists()


@pytest.mark.parametrize(("which", "said"), [("", "no fingerprint"), ("00", "no fingerprint"), ("a", "2 fingerprints")])
def test_rm_asks_for_one_fingerprint(which: str, said: str, tmp_path: Path) -> None:
    for digest in ("ab" * 32, "ac" * 32):
        store(tmp_path, digest).append(values(1))
    with pytest.raises(CacheError, match=said):
        remove_kept(tmp_path, which)
    assert len(list(tmp_path.iterdir())) == 2
