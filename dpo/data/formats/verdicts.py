"""Which of two answers is better, as the columns of public sets say it."""

import re
from dataclasses import dataclass

from dpo.data.formats.settings import FormatSettings
from dpo.data.formats.values import LeftOut, RowProblem, Values, parse_flag, parse_score, pick, shorten

SIDE = re.compile(r"(?:.*[ _-])?([ab])", re.IGNORECASE)  # "A", "model_a", "response_b"
ORDER = re.compile(r"\[*([ab])\s*([<=>]{1,2})\s*([ab])\]*")  # "A>B", "[[B>>A]]", "A=B": answers of judges
TIES = ("tie", "tiebothbad", "both", "bothbad", "same", "equal", "none", "neither")  # letters alone


@dataclass(kw_only=True, slots=True)
class Verdict:
    """Which of two answers is better."""

    second: bool  # the second, not the first
    strength: float | None = None  # how much, in the data's own unit


def index(name: str, row: Values) -> bool:
    """The column that holds 0 for the first answer and 1 for the second. Raises RowProblem."""
    flag = parse_flag(row.get(name))
    if flag is None:
        raise RowProblem("no label", f"{name} is {shorten(row.get(name))}, expected 0 or 1")
    return flag


def by_index(name: str, row: Values, settings: FormatSettings) -> Verdict:
    """0 for the first answer, 1 for the second. Raises RowProblem."""
    return Verdict(second=index(name, row))


def by_flag(name: str, row: Values, settings: FormatSettings) -> Verdict:
    """1 where the first answer is better, else 0. Raises RowProblem."""
    return Verdict(second=not index(name, row))


def by_strength(name: str, row: Values, settings: FormatSettings) -> Verdict:
    """Below 0: the first answer is better by that much; above: the second. Raises LeftOut, RowProblem."""
    value = parse_score(row.get(name), name)
    if value is None:
        raise RowProblem("no label", f"{name} is absent or null")
    if value == 0:
        raise LeftOut("no preference", f"{name} is 0: both answers are about the same")
    return Verdict(second=value > 0, strength=abs(value))


def by_number(names: str, row: Values, settings: FormatSettings) -> Verdict:
    """1 to 2, from the first to the second; in the middle neither. Raises LeftOut, RowProblem."""
    name, found = pick(row, names)
    value = parse_score(found, name)
    if value in (0, 1.5):  # how judges of AlpacaEval write a tie
        raise LeftOut("no preference", f"{name} is {value:g}: a tie")
    if value is None or not 1 <= value <= 2:
        raise RowProblem("no label", f"{name} is {shorten(found)}, expected 1 or 2")
    return Verdict(second=value > 1.5)


def by_letter(names: str, row: Values, settings: FormatSettings) -> Verdict:
    """ "A", "model_b", "B>A", "tie", ... Raises LeftOut, RowProblem."""
    name, value = pick(row, names)
    text = value.strip().lower() if isinstance(value, str) else ""
    order = ORDER.fullmatch(text)
    if re.sub("[^a-z]", "", text) in TIES or (order and "=" in order[2]):
        raise LeftOut("no preference", f"{name} is {shorten(value)}")
    if order and order[1] != order[3]:
        return Verdict(second=(order[1] == "b") == (">" in order[2]))
    side = SIDE.fullmatch(text)
    if side is None:
        raise RowProblem("no label", f"{name} is {shorten(value)}, expected a or b, as in model_a")
    return Verdict(second=side[1].lower() == "b")


def by_scores(names: tuple[str, str], row: Values, settings: FormatSettings) -> Verdict:
    """Each answer has a score, higher is better. Raises LeftOut, RowProblem."""
    (first_name, first), (second_name, second) = ((name, parse_score(value, name)) for name, value in _both(names, row))
    if first is None or second is None:
        raise RowProblem("no label", f"{second_name if second is None else first_name} is absent or null")
    if first == second:
        raise LeftOut("no preference", f"{first_name} and {second_name} are both {first:g}")
    return Verdict(second=second > first)


def by_winner_columns(names: tuple[str, str], row: Values, settings: FormatSettings) -> Verdict:
    """One column per answer, 1 in that of the winner and 0 in the other; 0 in both is a tie. Raises LeftOut,
    RowProblem."""
    first, second = (index(name, row) for name in names)
    if first and second:
        raise RowProblem("no label", f"{names[0]} and {names[1]} are both {shorten(row[names[0]])}")
    if not first and not second:
        raise LeftOut("no preference", f"neither {names[0]} nor {names[1]}: a tie")
    return Verdict(second=second)


def _both(names: tuple[str, str], row: Values) -> list[tuple[str, object]]:
    return [pick(row, alternatives) for alternatives in names]
