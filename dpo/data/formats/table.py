"""The shapes of preference data, one table entry each: recognised by their columns, converted to messages."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dpo.data.formats.messages import (
    NO_ANSWER,
    Answers,
    parse_answer,
    parse_text,
    parse_turns,
    split_answers,
    with_system,
)
from dpo.errors import DataError

Columns = Mapping[str, str]
"""Column name -> kind of its values: "text", "list", "object", "number" or "other"; columns that are always null are
left out."""


@dataclass(kw_only=True, slots=True)
class Format:
    """One shape of preference data."""

    name: str
    description: str  # one line
    columns: dict[str, tuple[str, ...]]  # required column -> kinds its values may have
    convert: Callable[[dict[str, Any]], Answers]  # raises RowProblem
    absent: tuple[str, ...] = ()  # columns that mean another format when they are there

    def matches(self, columns: Columns) -> bool:
        """Whether data with these columns has this format."""
        return not self.lacks(columns) and not any(name in columns for name in self.absent)

    def lacks(self, columns: Columns) -> list[str]:
        """What keeps `columns` from this format, one phrase per column."""
        missing = [f"lacks {name}" for name in self.columns if name not in columns]
        wrong = [
            f"{name} is {columns[name]}, expected {' or '.join(kinds)}"
            for name, kinds in self.columns.items()
            if name in columns and columns[name] not in kinds
        ]
        return missing + wrong


def _from_sharegpt(row: dict[str, Any]) -> Answers:
    turns = parse_turns(row.get("conversations"), "conversations")
    chosen, rejected = (parse_answer(row.get(name), name) for name in ("chosen", "rejected"))
    return Answers(prompt=with_system(row.get("system"), turns), chosen=chosen, rejected=rejected)


def _from_strings(row: dict[str, Any]) -> Answers:
    prompt = [{"role": "user", "content": parse_text(row.get("prompt"), "prompt", "empty prompt")}]
    chosen, rejected = (
        [{"role": "assistant", "content": parse_text(row.get(name), name, NO_ANSWER[name])}]
        for name in ("chosen", "rejected")
    )
    return Answers(prompt=with_system(row.get("system"), prompt), chosen=chosen, rejected=rejected)


def _from_messages(row: dict[str, Any]) -> Answers:
    prompt = row.get("prompt")
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    turns = None if prompt is None else parse_turns(prompt, "prompt")
    chosen, rejected = (parse_answer(row.get(name), name) for name in ("chosen", "rejected"))
    found = split_answers(turns, chosen, rejected)
    return Answers(prompt=with_system(row.get("system"), found.prompt), chosen=found.chosen, rejected=found.rejected)


def _from_alpaca_ranking(row: dict[str, Any]) -> Answers:
    instruction = parse_text(row.get("instruction"), "instruction", "empty prompt")
    extra = row.get("input")
    if extra is not None and extra != "":
        instruction = f"{instruction}\n\n{parse_text(extra, 'input', 'empty prompt')}"
    return _from_strings({**row, "prompt": instruction})


_ANSWER_KINDS = ("text", "object", "list")
FORMATS: dict[str, Format] = {
    entry.name: entry
    for entry in (
        Format(
            name="sharegpt",
            description="conversations of {from, value} + chosen/rejected as text or {from, value}",
            columns={"conversations": ("list",), "chosen": _ANSWER_KINDS, "rejected": _ANSWER_KINDS},
            convert=_from_sharegpt,
        ),
        Format(
            name="strings",
            description="prompt, chosen and rejected as text",
            columns={"prompt": ("text",), "chosen": ("text",), "rejected": ("text",)},
            convert=_from_strings,
        ),
        Format(
            name="messages",
            description="chosen/rejected as lists of {role, content}, the prompt beside them, in them, or both",
            columns={"chosen": ("list",), "rejected": ("list",)},
            convert=_from_messages,
            absent=("conversations",),
        ),
        Format(
            name="alpaca_ranking",
            description="instruction and input + chosen/rejected as text",
            columns={"instruction": ("text",), "chosen": ("text",), "rejected": ("text",)},
            convert=_from_alpaca_ranking,
            absent=("prompt",),
        ),
    )
}


def choose_format(setting: str, columns: Columns, where: str) -> Format:
    """The format that `data.format` names, or the one recognised by `columns`.

    `where`: the data's path, for the messages. Raises DataError when the name is unknown or nothing fits.
    """
    if setting != "auto":
        if setting not in FORMATS:
            raise DataError(f"data.format={setting} is unknown; known formats: auto, {', '.join(FORMATS)}")
        missing = [name for name in FORMATS[setting].columns if name not in columns]
        if not missing:
            return FORMATS[setting]
        raise DataError(
            f"data.format={setting} needs the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}; "
            f"{where} has {_column_text(columns)}"
        )
    for entry in FORMATS.values():
        if entry.matches(columns):
            return entry
    raise DataError(_no_match(columns, where))


def _column_text(columns: Columns) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in columns.items()) or "no columns with values"


def _no_match(columns: Columns, where: str) -> str:
    known = [
        f"  {entry.name} ({entry.description}): {'; '.join(entry.lacks(columns)) or 'has columns of another format'}"
        for entry in FORMATS.values()
    ]
    return (
        f"the format of {where} is not recognised; its columns: {_column_text(columns)}.\nKnown formats:\n"
        + "\n".join(known)
        + "\nRename the columns, or name a format with data.format"
    )


def columns_of(rows: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Every column with the most common kind of its values: a few bad rows do not hide the format."""
    kinds: dict[str, Counter[str]] = {}
    for row in rows:
        for name, value in row.items():
            if value is not None:
                kinds.setdefault(name, Counter())[_kind(value)] += 1
    return {name: counts.most_common(1)[0][0] for name, counts in kinds.items()}


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "other"
    for kind, types in (("text", str), ("list", list), ("object", dict), ("number", (int, float))):
        if isinstance(value, types):
            return kind
    return "other"
