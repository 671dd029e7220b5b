"""The page below its first screen: every number, then the pairs that a person should read."""

from dpo.data.findings.answers import Margins
from dpo.data.findings.faults import FAULTS
from dpo.data.findings.findings import FIRST, percent
from dpo.data.findings.measure import Measured
from dpo.data.findings.repeats import Frequent
from dpo.data_report import pictures
from dpo.data_report.html import Html, table, tag
from dpo.data_report.pair_section import pair_section
from dpo.data_report.report import DataReport
from dpo.data_report.sections_tokens import computed_section, lengths_section, limits_section

MARKS = {
    "refusal": "refuses",
    "unfinished": "stops within a sentence",
    "empty": "says nothing",
    "loop": "repeats itself again and again",
    "markdown": "has lists, headings or bold",
    "code": "has a block of code",
    "link": "has a link",
    "html": "has HTML outside code",
}
SEVERITIES = {"bad": "serious", "warn": "look at it"}
ENDS = 40  # characters of texts in tables
ALIKE = 0.05  # share of prompts that begin alike, from which an example is shown


def sections(report: DataReport) -> list[Html]:
    """Headings and what stands under them; sections without content are left out."""
    found = report.measured
    parts = [
        ("More findings", _more(report)),
        ("What was looked for", _checks(report)),
        ("Lengths", lengths_section(found)),
        ("Limits", limits_section(found)),
        ("Chosen against rejected", _sides(found)),
        ("Repetition", _repetition(found)),
        ("Languages", [_languages(found)]),
        ("Scores in the data", _margins(found.margins) if found.margins else []),
        ("Sources", [_sources(found)]),
        ("Tokens to compute", [computed_section(found.computed)]),
        ("Rows left out", _left_out(report)),
        ("The most suspicious pairs", [pair_section(pair, i) for i, pair in enumerate(report.pairs, start=1)]),
        ("How the numbers came about", [_settings(report)]),
    ]
    return [html for title, content in parts if content for html in (tag("h2", title), *content)]


def _more(report: DataReport) -> list[Html]:
    others = [finding for finding in report.findings if finding.key != "length"][FIRST:]
    return (
        [tag("ul", *(tag("li", tag("b", f.title), f": {f.sentence} → {f.action}.") for f in others))] if others else []
    )


def _checks(report: DataReport) -> list[Html]:
    """Every fault that was found, and the names of those that were not: they were looked for as well."""
    found = report.measured
    severities = {finding.key: finding.severity for finding in report.findings}
    present = [fault for fault in FAULTS if found.faults[fault.key]]
    present.sort(key=lambda fault: ("bad", "warn", "").index(severities.get(fault.key, "")))
    rows = []
    for fault in present:
        count, severity = found.faults[fault.key], severities.get(fault.key, "")
        word = tag("span", f" ● {SEVERITIES[severity]}", class_=f"dot {severity}") if severity else Html("")
        rows.append([tag("span", fault.title, word), f"{count:,}", percent(count / found.pairs)])
    absent = "; ".join(fault.title[0].lower() + fault.title[1:] for fault in FAULTS if fault not in present)
    html = [table(["", "pairs", "share"], rows)] if rows else []
    return [*html, tag("p", f"Not found: {absent}.", class_="small")] if absent else html


def _sides(found: Measured) -> list[Html]:
    rows = [
        [words, *(percent(share) for share in (s.chosen, s.rejected, s.only_chosen, s.only_rejected))]
        for mark, words in MARKS.items()
        for s in [found.marks[mark]]
    ]
    head = ["The answer ...", "chosen", "rejected", "chosen alone", "rejected alone"]
    return [table(head, rows), _openings(found)]


def _openings(found: Measured) -> Html:
    rows = [[f"“{o.text[:ENDS]}”", percent(o.chosen), percent(o.rejected)] for o in found.repeats.openings]
    if not rows:
        return tag("p", "No first words of answers are frequent on one side.", class_="small")
    return table(["The answer begins with", "chosen", "rejected"], rows)


def _repetition(found: Measured) -> list[Html]:
    repeats = found.repeats
    per_prompt = found.pairs / repeats.prompts
    rows = [
        ["different prompts", f"{repeats.prompts:,}", f"{per_prompt:.2f} pairs each"],
        ["pairs of the most frequent prompt", f"{repeats.most_of_one_prompt:,}", ""],
        ["pairs that repeat an earlier one", f"{repeats.duplicates:,}", ""],
        ["pairs that contradict another", f"{repeats.conflicts:,}", ""],
    ]
    for side, answer in (("chosen", repeats.chosen), ("rejected", repeats.rejected)):
        if answer.pairs > 1:
            rows.append([f"prompts with one same {side} answer", f"{answer.pairs:,}", f"“{answer.text[:ENDS]}”"])
    return [table(["", "", ""], rows)]


def _languages(found: Measured) -> Html:
    rows = [
        [name, *(percent(shares[s]) for s in ("prompt", "chosen", "rejected"))]
        for name, shares in found.languages.items()
    ]
    note = f"The two answers are in different languages in {percent(found.different_language)} of the pairs. "
    note += "Guessed from scripts and frequent words: right for shares, wrong for some single texts."
    return tag("div", table(["Language", "prompts", "chosen", "rejected"], rows), tag("p", note, class_="small"))


def _margins(margins: Margins) -> list[Html]:
    rows = [
        ["pairs with a margin", f"{margins.pairs:,}"],
        ["mean", f"{margins.mean:.3g}"],
        ["5 %, median, 95 %", f"{margins.p5:.3g}, {margins.p50:.3g}, {margins.p95:.3g}"],
        ["zero", f"{margins.zero:,}"],
        ["negative: the rejected answer has the better score", f"{margins.negative:,}"],
    ]
    picture = pictures.histogram(margins.histogram, ["margin"], "margin: score of the chosen minus the rejected answer")
    return [tag("div", picture, table(["", ""], rows), class_="grid")]


def _sources(found: Measured) -> Html:
    rows = [
        [
            source.name,
            f"{source.pairs:,}",
            f"{source.prompts:,}",
            f"{source.prompt_tokens:,.0f}",
            f"{source.chosen_tokens:,.0f}",
            f"{source.rejected_tokens:,.0f}",
            "" if source.longer_chosen is None else percent(source.longer_chosen),
            *(percent(source.faults[key]) for key in ("duplicate", "conflict", "chosen_refuses", "rejected_off_topic")),
            "" if source.margin is None else f"{source.margin:.3g}",
            _alike(source.template),
        ]
        for source in found.sources
    ]
    head = ["Source", "pairs", "prompts", "prompt", "chosen", "rejected", "longer chosen", "repeated", "contradicted"]
    head += ["chosen refuses", "rejected off topic", "margin", "prompts that begin alike"]
    return table(head, rows)


def _alike(found: Frequent) -> str:
    """The share, with an example where it is one of a template rather than of a few prompts by chance."""
    if found.pairs < 2:
        return ""
    example = f": “…{' '.join(found.text[-ENDS:].split())}”" if found.share >= ALIKE else ""
    return percent(found.share) + example


def _left_out(report: DataReport) -> list[Html]:
    found = report.measured
    reasons = [[reason, f"{count:,}", "bad row"] for reason, count in found.rejects.items()]
    reasons += [[reason, f"{count:,}", "left out on purpose"] for reason, count in found.dropped.items()]
    if not reasons:
        return [tag("p", f"None: all {found.rows_read:,} rows are used.")]
    examples = [tag("li", f"{reject.source}: {reject.reason}: {reject.detail}") for reject in report.rejects]
    listed = [tag("p", "The first bad rows:", class_="small"), tag("ul", *examples, class_="small")] if examples else []
    return [tag("p", f"Of {found.rows_read:,} rows:"), table(["Reason", "count", ""], reasons), *listed]


def _settings(report: DataReport) -> Html:
    notes = (
        "Lengths are tokens of the tokenizer below, answers with their end-of-turn token.",
        "The rule on lengths sorts pairs into cells by the ratio of the two lengths and by the longer length, and says "
        "in each what most pairs of four fifths of the prompts say there; it is tried on the other fifth, in turn.",
        "A topic is missed when no word of the prompt (four letters and more, by its first six) is in an answer of 15 "
        "words or more, and at least one is in the other answer. All must be in one language.",
        "Texts are the same but for formatting when their words are, without case, blanks, punctuation and Markdown.",
        "Numbers of pairs are those within the limits, training and held-out pairs together.",
    )
    rows = [[name, value] for name, value in report.settings.items()]
    return tag("div", tag("ul", *(tag("li", note) for note in notes)), table(["Setting", ""], rows, numbers_from=9))
