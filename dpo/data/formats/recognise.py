"""A sample of rows -> how all of them are read: format, what plain text is, which settings have an effect."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace

from dpo.config.schema import ObjectiveConfig
from dpo.data.formats.adjacent import joined
from dpo.data.formats.format import Format
from dpo.data.formats.judgement import Judgement
from dpo.data.formats.prompts import RECOGNISED, RENDERED
from dpo.data.formats.rendered import is_rendered
from dpo.data.formats.settings import FormatSettings
from dpo.data.formats.values import RowProblem, Values, pick
from dpo.data.pair import Reject
from dpo.data.read.files import Row
from dpo.errors import DataError

OF_SOME_FORMATS = ("plain_text", "preference", "ranked_pairs")
STYLES = {
    "user_turn": "plain prompts are one user turn each (data.plain_text)",
    "raw": "plain prompts are text that the answer continues, without a chat template (data.plain_text)",
    RENDERED: "prompts are rendered already, and their control tokens are meant (data.plain_text)",
    RECOGNISED: "prompts are rendered with chat markers already: no template is applied to them again",
}


def prompt_style(format: Format, rows: Sequence[Values], settings: FormatSettings) -> str:
    """What plain text is: as `settings` say, or "recognised" as rendered, where most prompts open with chat markers."""
    if not format.prompt or settings.plain_text == RENDERED:
        return settings.plain_text
    texts = [text for row in rows if isinstance(text := pick(row, format.prompt)[1], str)]
    return RECOGNISED if sum(map(is_rendered, texts)) * 2 > len(texts) else settings.plain_text


def objective_for(
    format: Format, rows: Sequence[Values], settings: FormatSettings
) -> tuple[ObjectiveConfig, str | None]:
    """(the objective as far as these rows have dimensions, a line for the log).

    Raises DataError: the rows have dimensions, but one of the weighted names is not among them.
    """
    objective = settings.objective
    if not objective.weights:
        return objective, None
    found = _dimensions(format, rows, settings)
    if not found:
        return replace(objective, weights={}), "no dimensions: data.objective changes nothing here"
    for name in objective.weights:
        if name not in found:
            raise DataError(
                f"data.objective.weights names {name}, which no row has; the dimensions are: {', '.join(found)}"
            )
    weights = " + ".join(f"{weight:g} {name}" for name, weight in objective.weights.items())
    margin = ", which is their margin too" if objective.margin else ""
    note = f"answers compared by {weights}{margin} (data.objective.weights), labels against it: {objective.contradicts}"
    return objective, note


def _dimensions(format: Format, rows: Sequence[Values], settings: FormatSettings) -> list[str]:
    """Names of the dimensions in the sample, the most frequent first."""
    counts: Counter[str] = Counter()
    for row in joined((Row(values=row, source="") for row in rows), format):
        if isinstance(row, Reject):
            continue
        try:
            judgement: Judgement = format.convert(row.values, settings)
        except (RowProblem, RecursionError):
            continue
        counts.update(name for answer in judgement.answers for name in answer.dimensions)
    return [name for name, _ in counts.most_common()]


def unused_settings(format: Format, settings: FormatSettings, objective: ObjectiveConfig) -> list[str]:
    """The settings that differ from their defaults and change nothing in data of this format. `objective`: what is left
    of `settings.objective` there."""
    default = asdict(FormatSettings())
    unused = [
        f"data.{name}={value}"
        for name, value in asdict(settings).items()
        if name in OF_SOME_FORMATS and value != default[name] and name not in _used(format)
    ]
    return unused + (["data.objective.weights"] if settings.objective.weights and not objective.weights else [])


def reading_notes(format: Format, settings: FormatSettings) -> list[str]:
    """For the log: what the settings make of rows of this format."""
    notes = {
        "plain_text": STYLES[settings.plain_text],
        "preference": f"the {settings.preference} answer is chosen (data.preference)",
        "ranked_pairs": f"pairs of a list: {settings.ranked_pairs} (data.ranked_pairs)",
    }
    return [note for name, note in notes.items() if name in _used(format)]


def _used(format: Format) -> tuple[str, ...]:
    return (*format.uses, "plain_text") if format.prompt else format.uses
