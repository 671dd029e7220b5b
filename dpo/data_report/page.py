"""The page: the verdict and the three most important findings first, then every number."""

from dpo.data.findings.findings import FIRST, Finding
from dpo.data_report.html import Html, join, tag, text
from dpo.data_report.pictures import gauge
from dpo.data_report.report import DataReport
from dpo.data_report.sections import SEVERITIES, sections

ANSWERS = {  # verdict -> words and colour
    "no": ("No.", "good"),
    "partly": ("Partly.", "warn"),
    "yes": ("Yes.", "bad"),
    "unknown": ("Too few pairs to tell.", "note"),
    "unpaired": ("There are no pairs to compare.", "note"),
}

STYLE = """
:root { color-scheme: light }
body { font: 16px/1.5 system-ui, sans-serif; color: #1f2328; background: #fff; max-width: 62rem; margin: 0 auto;
  padding: 1rem; overflow-wrap: anywhere }
h1 { font-size: 1.35rem; margin: 0 } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem } h3 { font-size: 1rem; margin: 0 }
p { margin: .3rem 0 } .small, figcaption { font-size: .85rem; color: #57606a }
.card { border-left: 6px solid #8c959f; background: #f6f8fa; padding: .7rem 1rem; margin: .7rem 0; border-radius: 4px }
.card .answer { font-size: 1.6rem; font-weight: 700; margin: 0 }
.bad { border-color: #cf222e; background: #fff0ee } .warn { border-color: #bf8700; background: #fff8e5 }
.good { border-color: #1a7f37; background: #effaf1 } .note { border-color: #0550ae; background: #eef6ff }
.grid { display: flex; flex-wrap: wrap; gap: 1rem } figure { margin: 0; flex: 0 1 300px; min-width: 280px }
 svg { width: 100%; max-width: 420px; height: auto; font-family: system-ui, sans-serif }
.scroll { overflow-x: auto } table { border-collapse: collapse; font-size: .9rem; margin: .4rem 0 }
td, th { padding: .2rem .6rem; border-bottom: 1px solid #d0d7de; vertical-align: top; text-align: left }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap } .t { overflow-wrap: normal }
.dot { font-weight: 700 } .dot.bad { color: #cf222e; background: none } .dot.warn { color: #9a6700; background: none }
.pair { border: 1px solid #d0d7de; border-radius: 6px; padding: .7rem 1rem; margin: 1rem 0 }
.pair pre { white-space: pre-wrap; font: 14px/1.45 ui-monospace, monospace; margin: .2rem 0 .6rem; padding: .5rem;
  background: #f6f8fa; max-height: 24rem; overflow-y: auto; unicode-bidi: plaintext }
@media print { .pair pre { max-height: none } }
mark { background: #dafbe1; color: inherit } .rejected mark { background: #ffebe9 }
"""


def render(report: DataReport) -> str:
    """The whole page as one string without any reference to the network."""
    title = f"Data report: {report.title}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Html(STYLE)),
    )
    body = tag("body", tag("h1", title), _subtitle(report), *_first_screen(report), *sections(report))
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def _subtitle(report: DataReport) -> Html:
    found = report.measured
    counts = f"{found.pairs:,} pairs, {found.repeats.prompts:,} prompts, {len(found.sources)} "
    return tag("p", counts + ("source" if len(found.sources) == 1 else "sources") + f"; {report.made}", class_="small")


def _first_screen(report: DataReport) -> list[Html]:
    words, colour = ANSWERS[report.verdict.answer]
    bias = report.measured.bias
    picture = [gauge(bias.rule_accuracy)] if bias and report.verdict.answer not in ("unknown", "unpaired") else []
    verdict = tag(
        "div",
        tag("h2", "Will this data teach length instead of quality?", style="margin:0"),
        tag("p", words, class_="answer"),
        tag("p", report.verdict.sentence),
        *picture,
        class_=f"card {colour}",
    )
    # The verdict says it already.
    others = [finding for finding in report.findings if finding.key != "length"]
    if not others:
        return [verdict, tag("div", "Nothing else stands out.", class_="card good")]
    heading = "The three most important findings" if len(others) >= FIRST else "What else stands out"
    return [verdict, tag("h2", heading), *map(card, others[:FIRST])]


def card(finding: Finding) -> Html:
    """One finding with its number and what to do."""
    return tag(
        "div",
        tag("h3", finding.title, tag("span", f" ({SEVERITIES[finding.severity]})", class_="small")),
        tag("p", finding.sentence),
        tag("p", join([text("→ "), text(finding.action), text(".")])),
        class_=f"card {finding.severity}",
    )
