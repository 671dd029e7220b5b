"""All shapes of preference data that are known, and which of them some data has."""

import difflib
from collections.abc import Sequence

from dpo.data.formats import arena, conversations, labelled, plain, ranked, rated, tokens, unpaired
from dpo.data.formats.format import Columns, Format, columns_of, spoken
from dpo.data.formats.values import Values
from dpo.errors import DataError

FAMILIES = (tokens, conversations, plain, labelled, arena, ranked, rated, unpaired)
FORMATS: dict[str, Format] = {entry.name: entry for family in FAMILIES for entry in family.FORMATS}
CLOSEST = 3  # formats that the message about unknown columns tells in detail


def choose_format(setting: str, rows: Sequence[Values], where: str) -> Format:
    """The format that `data.format` names, or the one recognised by a sample of the rows.

    `where`: the data's path, for the messages. Raises DataError when the name is unknown or nothing fits.
    """
    columns = columns_of(rows)
    if setting != "auto":
        return _named(setting, columns, where)
    for entry in FORMATS.values():
        if entry.matches(columns, rows):
            return entry
    raise DataError(_no_match(columns, where))


def format_table() -> str:
    """Markdown: every format and its columns."""
    lines = [f"| `{entry.name}` | {entry.description} |".replace("\n", "\\n") for entry in FORMATS.values()]
    return "\n".join(["| `data.format` | columns |", "|---|---|", *lines])


def _named(setting: str, columns: Columns, where: str) -> Format:
    if setting not in FORMATS:
        near = difflib.get_close_matches(setting, FORMATS, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise DataError(f"data.format={setting} is unknown{hint}; known formats: auto, {', '.join(FORMATS)}")
    entry = FORMATS[setting]
    missing = [names for names in entry.columns if not any(name in columns for name in names.split("|"))]
    if not missing:
        return entry
    raise DataError(
        f"data.format={setting} needs the column{'s' if len(missing) > 1 else ''} "
        f"{', '.join(map(spoken, missing))}; {where} has {_column_text(columns)}"
    )


def _column_text(columns: Columns) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in columns.items()) or "no columns with values"


def _no_match(columns: Columns, where: str) -> str:
    """What the columns are, and what keeps them from the formats that come closest."""
    ranked = sorted(FORMATS.values(), key=lambda entry: (entry.distance(columns), -len(entry.columns)))
    near = [entry for entry in ranked[:CLOSEST] if entry.distance(columns) < 1]
    told = [
        f"  {entry.name} ({entry.description}): {'; '.join(entry.lacks(columns)) or _other_shape(entry, columns)}"
        for entry in near
    ]
    return "\n".join(
        [
            f"the format of {where} is not recognised; its columns: {_column_text(columns)}.",
            *(["The closest formats:", *told] if told else ["No known format has one of them."]),
            f"Other formats: {', '.join(sorted(FORMATS.keys() - {entry.name for entry in near}))}.",
            "Rename the columns (prompt, chosen and rejected as text is the simplest format), or name a format with "
            "data.format",
        ]
    )


def _other_shape(entry: Format, columns: Columns) -> str:
    foreign = [name for name in entry.absent if name in columns]
    if foreign:
        return f"does not come with {' or '.join(foreign)}"
    return f"most rows lack {entry.shape_says}"
