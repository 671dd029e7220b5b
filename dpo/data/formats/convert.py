"""Rows to pairs: what is wrong with a row becomes a `Reject`, what it leaves open a `Dropped`."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain, islice

from dpo.data.formats.adjacent import joined
from dpo.data.formats.compare import compare
from dpo.data.formats.encoded import decoded, encoded_columns
from dpo.data.formats.format import Format
from dpo.data.formats.judgement import PAIR, Judgement, check_prompt
from dpo.data.formats.prompts import unweighted
from dpo.data.formats.recognise import objective_for, prompt_style, reading_notes, unused_settings
from dpo.data.formats.settings import FormatSettings
from dpo.data.formats.table import choose_format
from dpo.data.formats.tools import parse_arguments
from dpo.data.formats.unread import unread_columns, unread_note
from dpo.data.formats.values import WRONG_TYPE, LeftOut, RowProblem, Values, parse_number
from dpo.data.pair import Dropped, Pair, Reject
from dpo.data.read.files import read_rows
from dpo.data.read.origin import Origin, Row
from dpo.errors import DataError

REFERENCE_LOGPS = ("ref_chosen_logps", "ref_rejected_logps")
NOT_TEXT = tuple(name + plural for name in ("image", "video", "audio") for plural in ("", "s"))
SAMPLE = 1000  # rows looked at to recognise the format
WATCHED = 100  # of these, to see which columns are read
LOOKED_AT = 100_000  # rows until the first of them, where many cannot be read


@dataclass(kw_only=True, slots=True)
class Converter:
    """How the rows of one source become pairs. It can be sent to another process."""

    format: Format
    settings: FormatSettings
    dataset: str = ""  # name of the source, for every pair
    encoded: tuple[str, ...] = ()  # columns that hold messages as JSON text
    notes: list[str] = field(default_factory=list)  # for the log: what the sample showed, what settings do
    unused: list[str] = field(default_factory=list)  # settings without effect on this source

    def pairs(self, row: Row) -> list[Pair] | Reject:
        """The pairs of a row, at least one, or why it gives none (`Dropped`: nothing is wrong with it). Never raises,
        whatever JSON the row holds."""
        try:
            return self._pairs(row)
        except LeftOut as problem:
            return Dropped(source=row.source, reason=problem.reason, detail=problem.detail)
        except RowProblem as problem:
            return Reject(source=row.source, reason=problem.reason, detail=problem.detail)
        except RecursionError:  # from showing a value nested about as deep as the JSON parser allows
            return Reject(source=row.source, reason=WRONG_TYPE, detail="a value is nested too deeply")

    def _pairs(self, row: Row) -> list[Pair]:
        values = decoded(row.values, self.encoded)
        _require_text_alone(values)
        judgement = self.format.convert(values, self.settings)
        check_prompt(judgement.prompt)
        if (margin := parse_number(values.get("margin"), "margin")) is not None:
            judgement.margin = margin
        reference = _reference(values, judgement) if self.settings.reference_logps == "auto" else None
        arguments = parse_arguments(values.get("chat_template_kwargs"))
        prompt = [unweighted(turn) for turn in judgement.prompt]
        return [
            Pair(
                prompt=prompt,
                chosen=one.chosen.turns,
                rejected=one.rejected.turns,
                source=row.source,
                dataset=self.dataset,
                tools=judgement.tools,
                template_arguments=arguments,
                margin=one.margin,
                reference=reference[::-1] if reference and one.swapped else reference,
                remarks=one.remarks,
            )
            for one in compare(judgement, self.settings)
        ]

    def describe(self) -> str:
        """For the log: the format, and what the sample and the settings decide about it."""
        return "; ".join([f"format {self.format.name} ({self.format.description})", *self.notes])


def choose_converter(
    rows: Iterable[Row | Reject], origin: Origin, settings: FormatSettings
) -> tuple[Converter, Iterator[Row | Reject]]:
    """What suits the first rows, and all rows from the first on, those of one prompt joined where the format asks for
    it. Raises DataError: nothing there, none readable, the format not recognised, settings that do not suit it."""
    rows = iter(rows)
    looked: list[Row | Reject] = []
    readable: list[Values] = []
    for row in islice(rows, LOOKED_AT):
        looked.append(row)
        if isinstance(row, Row):
            readable.append(row.values)
        if len(readable) == SAMPLE:
            break
    if not looked:
        raise DataError(f"{origin.path} holds no rows; set {origin.setting} to a file that has some")
    if not readable:
        first = next(row for row in looked if isinstance(row, Reject))
        raise DataError(
            f"no row of {origin.path} can be read; the first, {first.source}: {first.reason}: {first.detail}"
        )
    converter = converter_for(readable, settings, origin.path, origin.name)
    return converter, joined(chain(looked, rows), converter.format)


def converter_for(rows: Sequence[Values], settings: FormatSettings, where: str, dataset: str = "") -> Converter:
    """How data with this sample of rows is read. `where`: its path, for messages. Raises DataError: the format is not
    recognised, or the settings do not suit it."""
    encoded = encoded_columns(rows)
    rows = list(_sound(rows, encoded))
    chosen = choose_format(settings.format, rows, where)
    read_as = replace(settings, plain_text=prompt_style(chosen, rows, settings))
    objective, note = objective_for(chosen, rows, read_as)
    converter = Converter(
        format=chosen,
        settings=replace(read_as, objective=objective),
        dataset=dataset,
        encoded=encoded,
        notes=[*reading_notes(chosen, read_as), *([note] if note else [])],
        unused=unused_settings(chosen, settings, objective),
    )
    unread = unread_columns(chosen, rows[:WATCHED], replace(converter, encoded=()).pairs)
    converter.notes += unread_note(unread)
    return converter


def _sound(rows: Sequence[Values], encoded: tuple[str, ...]) -> Iterator[Values]:
    for row in rows:
        with suppress(RowProblem):
            yield decoded(row, encoded)


def require_used(sources: Sequence[tuple[str, list[str]]]) -> None:
    """Of every source its format and the settings that it has no use for. Raises DataError: one changes nothing in any
    of them."""
    (_, first), *others = sources
    unused = [name for name in first if all(name in other for _, other in others)]
    if unused:
        formats = ", ".join(sorted({name for name, _ in sources}))
        raise DataError(f"{' and '.join(unused)} would change nothing: the data has the format {formats}. Remove it")


def _require_text_alone(row: Values) -> None:
    """Raises RowProblem: the row is about pictures or sound, without which its texts may make no sense."""
    for name in NOT_TEXT:
        if row.get(name):
            raise RowProblem("content is not text", f"the row comes with {name}; only text can be read")


def _reference(row: Values, judgement: Judgement) -> tuple[float, float] | None:
    """The optional columns with the summed log-probability of each answer under the reference. Raises RowProblem."""
    chosen, rejected = (parse_number(row.get(name), name) for name in REFERENCE_LOGPS)
    if chosen is None and rejected is None:
        return None
    if judgement.kind != PAIR:
        raise RowProblem("reference log-probabilities without a pair", f"{' and '.join(REFERENCE_LOGPS)} belong to one")
    if chosen is None or rejected is None:
        detail = f"{' and '.join(REFERENCE_LOGPS)} belong together, {REFERENCE_LOGPS[chosen is not None]} is missing"
        raise RowProblem("half of the reference log-probabilities", detail)
    if max(chosen, rejected) > 0:
        detail = f"{chosen:g} and {rejected:g}; the log of a probability is never above 0"
        raise RowProblem("positive reference log-probability", detail)
    return chosen, rejected


@dataclass(kw_only=True, slots=True)
class Converted:
    """All rows of one source: a row is in `rejects`, in `dropped`, or gave one or more of `pairs`."""

    pairs: list[Pair]
    rejects: list[Reject]
    dropped: list[Reject]  # sound rows that prefer nothing
    rows_read: int  # adjacent rows that were joined count as one
    converter: Converter

    @property
    def remarks(self) -> Counter[str]:
        """How many pairs have which remark."""
        return Counter(remark for pair in self.pairs for remark in pair.remarks)


def convert_rows(origin: Origin, settings: FormatSettings) -> Converted:
    """Read `origin` whole and convert it. Raises DataError: nothing there, format unknown."""
    converter, rows = choose_converter(read_rows(origin), origin, settings)
    found = Converted(pairs=[], rejects=[], dropped=[], rows_read=0, converter=converter)
    for row in rows:
        found.rows_read += 1
        result = converter.pairs(row) if isinstance(row, Row) else row
        if isinstance(result, list):
            found.pairs += result
        else:
            (found.dropped if isinstance(result, Dropped) else found.rejects).append(result)
    return found
