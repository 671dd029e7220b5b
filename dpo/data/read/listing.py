"""Which files a path means: a file, a folder, a glob, or a folder that `datasets` saved."""

import difflib
import glob
import json
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path

from dpo.data.read.origin import Origin
from dpo.errors import DataError

log = logging.getLogger(__name__)

TEXT_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")
BINARY_SUFFIXES = (".parquet", ".arrow", ".feather")
PACKED_SUFFIXES = (".gz", ".bz2", ".xz", ".zst")  # after one of the text suffixes
SUFFIXES = (*TEXT_SUFFIXES, *BINARY_SUFFIXES)
KNOWN = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} (the text ones also with {', '.join(PACKED_SUFFIXES)})"
SAVED_SPLITS, SAVED_STATE = "dataset_dict.json", "state.json"  # written by `datasets`' save_to_disk
# File names that say which split they hold. Reading all of them as one would train on what is to be held out.
SPLIT_WORD = re.compile(r"(train|test|validation|valid|val|dev|eval)(?![a-z])", re.IGNORECASE)


@dataclass(kw_only=True, slots=True)
class InputFile:
    """One file of rows."""

    path: Path
    label: str  # how the sources of its rows begin

    @property
    def suffix(self) -> str:
        """What it holds: one of `SUFFIXES`, or "" when the name does not say."""
        return suffix_of(self.path.name)


def suffix_of(name: str) -> str:
    """The one of `SUFFIXES` that a file's name ends with, compressed or not; "" when there is none."""
    name = name.lower()
    packed = next((ending for ending in PACKED_SUFFIXES if name.endswith(ending)), "")
    known = TEXT_SUFFIXES if packed else SUFFIXES
    return next((suffix for suffix in known if name.removesuffix(packed).endswith(suffix)), "")


def is_local(path: str) -> bool:
    """Whether `path` means files rather than a hub name such as "owner/name"."""
    looks_like_path = path.startswith(("/", "./", "../", "~")) or path.endswith("/") or path.count("/") > 1
    return looks_like_path or is_glob(path) or suffix_of(path) != "" or Path(path).exists()


def short_name(path: str) -> str:
    """A file's name without its suffixes, a folder's name (of a glob that of the one it begins in), or a hub name."""
    if not is_local(path):
        return path
    parts = Path(os.path.abspath(Path(path).expanduser())).parts
    name = next(part for part in reversed(parts) if not is_glob(part))
    suffix = suffix_of(name)
    return name[: name.lower().rindex(suffix)] or name if suffix else name


def input_files(origin: Origin) -> list[InputFile]:
    """The files that `origin.path` means, in the order in which they are read. Raises DataError when there is none."""
    path = Path(origin.path).expanduser()
    if path.is_file():
        return [InputFile(path=path, label=origin.label or path.name)]
    if path.is_dir():
        files = _saved(path, origin) if _is_saved(path) else _of_split(_in_folder(path, origin), origin)
        return [_below(path, file, origin) for file in files]
    if is_glob(origin.path):
        return _matching(path, origin)
    raise DataError(_missing(path, origin.setting))


def is_glob(path: str) -> bool:
    """Whether `path` may match several files."""
    return any(sign in path for sign in "*?[")


def _below(folder: Path, file: Path, origin: Origin) -> InputFile:
    """A file under `folder`, labelled by its place in it."""
    place = file.relative_to(folder).as_posix()
    return InputFile(path=file, label=f"{origin.label}/{place}" if origin.label else place)


def _matching(pattern: Path, origin: Origin) -> list[InputFile]:
    found = sorted(Path(name) for name in glob.glob(str(pattern), recursive=True))
    files = [file for file in found if file.is_file() and suffix_of(file.name)]
    if not files:
        raise DataError(f"{pattern} matches no {KNOWN} file (looked from {Path.cwd()}); set {origin.setting}")
    plain = list(pattern.parent.parts)
    magic = next((i for i, part in enumerate(plain) if is_glob(part)), len(plain))
    return [_below(Path(*plain[:magic]), file, origin) for file in files]


def _in_folder(folder: Path, origin: Origin) -> list[Path]:
    files = sorted(p for p in folder.iterdir() if p.is_file() and suffix_of(p.name))
    if files:
        return files
    message = f"the folder {folder.resolve()} holds no {KNOWN} file; set {origin.setting}"
    deeper = next((p for p in sorted(folder.rglob("*")) if p.is_file() and suffix_of(p.name)), None)
    raise DataError(f"{message}. There is one further down: {deeper}" if deeper else message)


def _of_split(files: list[Path], origin: Origin) -> list[Path]:
    """All files, unless their names tell several splits apart, or another split than "train" is asked for: then those
    of `origin.split`.

    Raises:
        DataError: none is named after that split.
    """
    words = {word[0].lower() for file in files if (word := SPLIT_WORD.match(file.name))}
    if len(words) < 2 and origin.split == "train":
        return files
    # train.jsonl, train_prefs.parquet, train-00000-of-00002.parquet: the name, up to a shard's number, is the split.
    named = re.compile(rf"{re.escape(origin.split)}(-\d+-of-\d+[^.]*)?\.", re.IGNORECASE)
    chosen = [file for file in files if named.match(file.name)]
    folder = files[0].parent
    if not chosen:
        raise DataError(
            f"no file in the folder {folder.resolve()} is named after the split {origin.split}; there is: "
            f"{', '.join(file.name for file in files)}. Set {origin.split_setting} to one of their splits, or "
            f"{origin.setting} to a file or a glob"
        )
    others = [file.name for file in files if file not in chosen] or ["none"]
    log.info(
        "data: %s: split %s (%s) is read: %s; not read: %s",
        *(origin.path, origin.split, origin.split_setting),
        *(", ".join(file.name for file in chosen), ", ".join(others)),
    )
    return chosen


def _is_saved(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (SAVED_SPLITS, SAVED_STATE))


def _saved(folder: Path, origin: Origin) -> list[Path]:
    """The files of a folder made by `Dataset.save_to_disk`, or of one split of a `DatasetDict`'s. Raises DataError."""
    try:
        if (folder / SAVED_SPLITS).is_file():
            splits = json.loads((folder / SAVED_SPLITS).read_bytes())["splits"]
            if origin.split not in splits:
                raise DataError(
                    f"the folder {folder.resolve()} has no split {origin.split!r}, it has {', '.join(splits)}; "
                    f"set {origin.split_setting}"
                )
            folder = folder / origin.split
        state = json.loads((folder / SAVED_STATE).read_bytes())
        return [folder / file["filename"] for file in state["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{folder.resolve()} looks like a data set saved by `datasets`, and its {SAVED_STATE} or {SAVED_SPLITS} "
            f"cannot be read ({type(error).__name__}: {error}): save it again, or set {origin.setting} to its files"
        ) from error


def _missing(path: Path, setting: str) -> str:
    """What the message for a missing file says, with the names in its folder that are close to it."""
    message = f"no file {path} (looked for {path.resolve()}); set {setting} to an existing file"
    folder = path.resolve().parent
    if not folder.is_dir():
        return f"{message}. The folder {folder} does not exist either"
    near = difflib.get_close_matches(path.name, [p.name for p in folder.iterdir()], n=3)
    return f"{message}. In that folder there is: {', '.join(near)}" if near else message
