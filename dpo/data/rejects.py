"""What became of the rows that are not trained on: written down, counted, and an error where the user wants one."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

from dpo.data.pair import Reject
from dpo.errors import DataError

K = TypeVar("K")
SHOWN = 10


def add_counts(total: dict[K, int], more: dict[K, int]) -> None:
    """Add `more` to `total`, in place."""
    for key, count in more.items():
        total[key] = total.get(key, 0) + count


@dataclass(kw_only=True, slots=True)
class Lost:
    """Rows or pairs that are not kept: counted, with the first of them. The whole list is on disk."""

    counts: dict[str, int] = field(default_factory=dict)  # reason -> how many
    first: list[Reject] = field(default_factory=list)  # at most `SHOWN`

    def __len__(self) -> int:
        return sum(self.counts.values())

    def add(self, reject: Reject) -> None:
        add_counts(self.counts, {reject.reason: 1})
        if len(self.first) < SHOWN:
            self.first.append(reject)

    def join(self, other: "Lost") -> None:
        """Add what comes behind in the data."""
        add_counts(self.counts, other.counts)
        self.first += other.first[: SHOWN - len(self.first)]

    def reasons(self) -> str:
        """ "3 empty answer, 1 unknown role", the most frequent first."""
        return ordered(self.counts)

    def show(self) -> str:
        """The first rows, one per line."""
        lines = [f"  {reject.source}: {reject.reason}: {reject.detail}" for reject in self.first]
        more = len(self) - len(self.first)
        return "\n".join([*lines, f"  ... and {more} more"] if more > 0 else lines)


def ordered(counts: dict[str, int]) -> str:
    """ "3 empty answer, 1 unknown role", the most frequent first."""
    return ", ".join(f"{count} {what}" for what, count in sorted(counts.items(), key=lambda item: -item[1]))


def joined(parts: Iterable[Lost]) -> Lost:
    """All of them behind each other."""
    total = Lost()
    for part in parts:
        total.join(part)
    return total


def lines(rejects: Iterable[Reject]) -> Iterator[str]:
    """One JSON object per row: source, reason, detail."""
    return (json.dumps(asdict(reject), ensure_ascii=False) + "\n" for reject in rejects)


def write_rejects(path: Path, kept: list[Path], more: Iterable[Reject]) -> None:
    """The files of the prepared sources behind each other, then `more`. Makes the folder if needed; an older file is
    replaced. Without a row and without a folder there is nothing to say: a command that only looks at a run leaves
    nothing behind."""
    rest = lines(more)
    first = next(rest, "")
    if not path.parent.exists() and not first and not any(file.stat().st_size for file in kept):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    half_written = path.with_name(path.name + ".part")
    with half_written.open("w", encoding="utf-8", errors="backslashreplace") as target:
        for file in kept:
            with file.open(encoding="utf-8") as source:
                target.writelines(source)
        target.write(first)
        target.writelines(rest)
    half_written.replace(path)


def check_rejects(rejects: Lost, on_bad_row: str, path: Path) -> None:
    """Raise DataError when there are `rejects` and `on_bad_row` is "error".

    `path`: where `write_rejects` put the whole list.
    """
    if not len(rejects) or on_bad_row != "error":
        return
    rows = "1 bad row" if len(rejects) == 1 else f"{len(rejects)} bad rows"
    raise DataError(
        f"{rows} in the data ({rejects.reasons()}):\n{rejects.show()}\n"
        f"The whole list is in {path}. Mend the rows, or leave them out with data.on_bad_row=skip"
    )
