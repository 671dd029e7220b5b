"""What stands beside prepared pairs: what they were made from, and what became of every row."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dpo.data.pair import Reject
from dpo.data.rejects import Lost, add_counts

FILE = "manifest.json"
COUNTS = ("rows_read", "accepted", "rejected", "dropped", "pairs", "supplied", "unpaired", "cut_pairs")  # of a tally
LOST = ("rejects", "left_out", "too_long")
REJECTS = "rejects.jsonl"  # beside it: every row that is not kept, as `rejects.write_rejects` writes them


@dataclass(kw_only=True, slots=True)
class Part:
    """One Arrow file."""

    file: str
    pairs: int
    size: int  # bytes
    sha256: str


@dataclass(kw_only=True, slots=True)
class Tally:
    """What became of rows: rows_read = accepted + rejected + dropped. A row is accepted when one of its pairs is kept,
    rejected when none is and one of them is bad, and dropped otherwise."""

    rows_read: int = 0
    accepted: int = 0
    rejected: int = 0
    dropped: int = 0
    pairs: int = 0  # kept
    supplied: int = 0  # of them, those with reference log-probabilities of their own
    rejects: Lost = field(default_factory=Lost)  # bad: an error unless data.on_bad_row=skip
    left_out: Lost = field(default_factory=Lost)  # sound rows that prefer nothing; never an error
    too_long: Lost = field(default_factory=Lost)  # sound pairs beyond the limits; never an error
    remarks: dict[str, int] = field(default_factory=dict)  # `Pair.remarks` -> how many converted pairs have it
    unpaired: int = 0  # of the kept pairs, those with one answer only
    cut: dict[str, int] = field(default_factory=dict)  # part of a pair -> how many pairs lost some of it
    cut_pairs: int = 0
    lengths: dict[int, int] = field(default_factory=dict)  # tokens of a pair before limits -> pairs of this length
    highest: tuple[int, str] = (0, "")  # token id, and where it stands

    @property
    def all_lost(self) -> tuple[Lost, ...]:
        return tuple(getattr(self, name) for name in LOST)

    def join(self, other: "Tally") -> None:
        """Add what comes behind in the data."""
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for mine, theirs in zip(self.all_lost, other.all_lost, strict=True):
            mine.join(theirs)
        add_counts(self.remarks, other.remarks)
        add_counts(self.cut, other.cut)
        add_counts(self.lengths, other.lengths)
        self.highest = max(self.highest, other.highest, key=lambda found: found[0])


@dataclass(kw_only=True, slots=True)
class Manifest:
    """Of one prepared source."""

    made_from: dict[str, Any]  # everything that decides the content; its digest names the folder
    format: str  # of the rows, in words for the log
    format_name: str
    unused: list[str]  # settings of data= that change nothing for this format
    parts: list[Part]
    tally: Tally

    def write(self, folder: Path) -> None:
        (folder / FILE).write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Raises OSError, ValueError, KeyError, TypeError: none there, or not one that this version has written."""
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
        tally = found.pop("tally")
        for name in LOST:
            lost = tally[name]
            tally[name] = Lost(counts=lost["counts"], first=[Reject(**reject) for reject in lost["first"]])
        tally["lengths"] = {int(length): count for length, count in tally["lengths"].items()}
        tally["highest"] = tuple(tally["highest"])
        parts = [Part(**part) for part in found.pop("parts")]
        return cls(parts=parts, tally=Tally(**tally), **found)
