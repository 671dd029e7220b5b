"""What became of the rows that are not trained on: written down, counted, and an error where the user wants one."""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from dpo.data.pair import Reject
from dpo.errors import DataError

SHOWN = 10


def write_rejects(path: Path, rejects: list[Reject]) -> None:
    """One JSON object per line: source, reason, detail. Makes the folder if needed; an older file is replaced. Without
    rejects and without a folder there is nothing to say: a command that only looks at a run leaves nothing behind."""
    if not rejects and not path.parent.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    half_written = path.with_name(path.name + ".part")
    with half_written.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.writelines(json.dumps(asdict(reject), ensure_ascii=False) + "\n" for reject in rejects)
    half_written.replace(path)


def check_rejects(rejects: list[Reject], on_bad_row: str, path: Path) -> None:
    """Raise DataError when there are `rejects` and `on_bad_row` is "error".

    `path`: where `write_rejects` put the whole list.
    """
    if not rejects or on_bad_row != "error":
        return
    rows = "1 bad row" if len(rejects) == 1 else f"{len(rejects)} bad rows"
    raise DataError(
        f"{rows} in the data ({count_reasons(rejects)}):\n{show(rejects)}\n"
        f"The whole list is in {path}. Mend the rows, or leave them out with data.on_bad_row=skip"
    )


def count_reasons(rejects: list[Reject]) -> str:
    """ "3 empty answer, 1 unknown role", the most frequent first."""
    return ", ".join(f"{count} {reason}" for reason, count in Counter(r.reason for r in rejects).most_common())


def show(rejects: list[Reject]) -> str:
    """The first rows, one per line."""
    lines = [f"  {reject.source}: {reject.reason}: {reject.detail}" for reject in rejects[:SHOWN]]
    more = len(rejects) - SHOWN
    return "\n".join([*lines, f"  ... and {more} more"] if more > 0 else lines)
