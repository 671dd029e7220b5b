"""Where rows come from, and a row before it is understood."""

from dataclasses import dataclass
from typing import Any


@dataclass(kw_only=True, slots=True)
class Origin:
    """One source of rows, and the settings that errors name."""

    path: str  # file, folder, glob or hub name
    name: str = ""  # of the source, for `Pair.dataset`
    label: str | None = None  # how the source of every row begins; null: the file's name
    format: str = "auto"  # as data.format
    split: str = "train"  # of a hub data set, or of a folder that holds several
    revision: str | None = None  # the next three: of a hub data set
    subset: str | None = None  # its configuration
    data_dir: str | None = None  # a folder in its repository
    streaming: bool = False  # whether a hub data set is read over the network instead of being fetched first
    limit: int | None = None  # only the first rows
    setting: str = "data.path"  # the setting that holds `path`
    split_setting: str = "data.split"

    @property
    def where(self) -> str:
        """What it is called in the log: the path, of a hub data set with the part that is read."""
        return ":".join(part for part in (self.path, self.subset, self.data_dir) if part)


@dataclass(kw_only=True, slots=True)
class Row:
    """One row before it is understood."""

    values: dict[str, Any]  # column -> value
    source: str  # "file.jsonl:17" (line), "file.json:row 17" or "hub/name:train:row 17"; counting from 1
