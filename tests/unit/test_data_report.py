"""The page and the JSON of the data report: well-formed, self-contained, nothing unescaped, the same keys always."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from findings_data import Words, account, clean_pairs, columns_over, pair, texts

from dpo.data.findings.findings import findings, verdict
from dpo.data.findings.measure import measure
from dpo.data.findings.suspects import Suspect
from dpo.data.pair import Pair, Reject
from dpo.data_report.html import VOID, Html, tag, text
from dpo.data_report.page import STYLE, render
from dpo.data_report.report import DataReport, write
from dpo.data_report.shown import ANSWER, BEFORE, shown_pair

pytestmark = pytest.mark.unit

ATTACK = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&lt;b&gt;</pre></body>\x00\x1b[31m\u202e"


class Page(HTMLParser):
    """Raises where tags do not nest; collects tags, attributes and text."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.said: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.said.append(data)

    @property
    def all_text(self) -> str:
        return "".join(self.said)


def report_on(pairs: list[Pair], rejects: list[Reject] | None = None, title: str = "pairs.jsonl") -> DataReport:
    words = Words()
    columns = columns_over(pairs, words)
    found = measure(columns, account(columns, rejects or []), words.decode)
    return DataReport(
        title=title,
        made="2026-01-01 10:00+00:00",
        settings={"tokenizer": "words"},
        verdict=verdict(found),
        findings=findings(found),
        measured=found,
        pairs=[shown_pair(suspect, columns, words.decode) for suspect in found.suspects],
        rejects=rejects or [],
    )


def faulty_pairs() -> list[Pair]:
    """With every section of the page: margins, sources, openings, conflicts."""
    pairs = [pair(*texts(one), n, dataset=f"set {n % 2}", margin=1.0) for n, one in enumerate(clean_pairs(200))]
    for n in range(0, 200, 4):
        p, c, r = texts(pairs[n])
        pairs[n] = pair(p, f"- {c}\n- and more", f"Sure, I'd be happy to help. {r}", n, dataset="set 0", margin=-1.0)
    p, c, r = texts(pairs[1])
    return [*pairs, pair(p, r, c, 300, dataset="set 1"), *pairs[:10]]


def attacked_pairs() -> list[Pair]:
    """The attack in every text that a row can bring, in pairs that are shown and in what is listed."""
    pairs = [pair(ATTACK + str(n), f"{ATTACK} {n}", f"{n} {ATTACK}", n, dataset=ATTACK) for n in range(40)]
    pairs += [pair(p, r, c, n + 40, dataset=ATTACK) for n, (p, c, r) in enumerate(map(texts, pairs[:20]))]
    for one in pairs:
        one.source = ATTACK + one.source
    return pairs


def test_the_page_is_well_formed_and_needs_nothing_else() -> None:
    html = render(report_on(faulty_pairs()))
    page = Page(html)
    assert html.startswith("<!DOCTYPE html>\n<html")
    assert not {"script", "link", "img", "iframe", "object", "a"} & set(page.tags)
    assert not {"src", "href", "onclick", "onerror"} & {name for name, _ in page.attributes}
    assert "url(" not in html and "@import" not in html
    assert page.tags.count("svg") == 5  # gauge, answers, prompts, by ratio, margins
    assert len(html) < 200_000


def test_the_page_tells_what_was_found() -> None:
    report = report_on(faulty_pairs())
    said = Page(render(report)).all_text
    for words in (report.verdict.sentence, *(finding.title for finding in report.findings)):
        assert words in said
    for words in ("Sure, I'd be", "set 0", "set 1", "the other pair is a.jsonl:", "data.max_length=", "Languages"):
        assert words in said
    assert said.index(report.verdict.sentence) < said.index("What was looked for") < said.index("suspicious pairs")


def test_nothing_of_the_data_is_markup() -> None:
    rejects = [Reject(source=ATTACK, reason=ATTACK, detail=ATTACK)]
    html = render(report_on(attacked_pairs(), rejects, title=ATTACK))
    page = Page(html)
    assert not {"script", "img"} & set(page.tags)
    assert page.tags.count("body") == 1
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", html)
    assert page.all_text.count("<script>alert(1)</script>") > 20
    assert "&lt;b&gt;" in page.all_text  # as the data has it, not as the tags that it would be


def test_tags_escape_what_is_no_html() -> None:
    assert tag("p", "a < b", tag("b", "c"), class_='x"y') == '<p class="x&quot;y">a &lt; b<b>c</b></p>'
    assert tag("br") == "<br>" and isinstance(tag("br"), Html)
    assert text("\ud800\x07\t\n") == "\ufffd\u2407\t\n"
    assert text(text("&")) == "&amp;"


def test_clean_pairs_have_a_calm_page() -> None:
    said = Page(render(report_on(clean_pairs()))).all_text
    assert "No." in said and "Nothing else stands out." in said and "suspicious" not in said


def test_a_page_of_few_unpaired_rows() -> None:
    pairs = [pair(p, c, "", n) for n, (p, c, _) in enumerate(map(texts, clean_pairs(5)))]
    said = Page(render(report_on(pairs))).all_text
    assert "There are no pairs to compare." in said and "5 rows have one answer only" in said


def test_scored_text_has_the_colour_of_its_side() -> None:
    colours = {one.strip(): colour for one, colour in re.findall(r"([^{}]*\bmark) \{ background: (#\w+)", STYLE)}
    assert colours.keys() == {"mark", ".rejected mark"} and colours["mark"] != colours[".rejected mark"]


@pytest.mark.parametrize("answer", ["no", "partly", "yes", "unknown", "unpaired"])
def test_every_verdict_has_its_words(answer: str) -> None:
    report = report_on(clean_pairs(40))
    report.verdict = replace(report.verdict, answer=answer)
    assert Page(render(report))


def test_files_are_written_whole_and_agree(tmp_path: Path) -> None:
    report = report_on(attacked_pairs())
    page, values = write(report, render(report), tmp_path / "new" / "pairs-12.5")
    assert [path.name for path in sorted(tmp_path.rglob("*.*"))] == ["pairs-12.5.html", "pairs-12.5.json"]
    assert Page(page.read_text(encoding="utf-8"))
    read = json.loads(values.read_text(encoding="utf-8"))
    assert read == json.loads(json.dumps(report.as_json()))
    assert read["measured"]["pairs"] == 60 and read["pairs"][0]["source"] == report.pairs[0].source


def keys_of(value: Any, prefix: str = "") -> set[str]:
    """Paths of keys; lists by their first entry, tables with free keys by a star."""
    free = ("rejects", "dropped", "marks", "languages", "faults", "beyond", "counts", "settings", "lengths")
    if isinstance(value, list):
        return keys_of(value[0], f"{prefix}[]") if value else set()
    if not isinstance(value, dict):
        return {prefix}
    found = set()
    for key, entry in value.items():
        name = "*" if prefix.rsplit(".", 1)[-1].rstrip("[]") in free else key
        found |= keys_of(entry, f"{prefix}.{name}" if prefix else name)
    return found


def test_the_keys_of_the_json_stay() -> None:
    """Whoever reads the file by program relies on them; see SCHEMA."""
    rejects = [Reject(source="a.jsonl:1", reason="empty answer", detail="chosen is blank")]
    assert sorted(keys_of(report_on(faulty_pairs(), rejects).as_json())) == KEYS.split()


def shown(chosen: str, rejected: str, context: tuple[tuple[int, int], ...] = ()) -> Any:
    words = Words()
    columns = columns_over([pair("p", chosen, rejected)], words)
    columns[0].chosen_context = context
    return shown_pair(Suspect(number=0, faults=["near_identical"], twin=-1), columns, words.decode)


def test_long_answers_are_shown_from_where_they_differ() -> None:
    same, rest = "word " * 400, "tail " * 1000
    found = shown(f"{same}one {rest}", f"{same}two")
    assert found.chosen.left_out == len(same) - BEFORE == found.rejected.left_out
    first = found.chosen.parts[0].text
    assert first.startswith("word ") and "one tail" in first and len(first) == ANSWER
    assert found.chosen.left_out + ANSWER + found.chosen.more == len(f"{same}one {rest} </s>")
    assert found.rejected.parts[0].text.endswith("two </s>") and found.rejected.more == 0


def test_what_is_not_scored_is_not_marked() -> None:
    found = shown("call result answer", "no", context=((1, 4),))  # tokens: call, blank, result, blank, answer, ...
    assert [(part.text, part.scored) for part in found.chosen.parts] == [
        ("call", True),
        (" result ", False),
        ("answer </s>", True),
    ]
    assert (found.chosen.tokens, found.chosen.scored) == (7, 4)


KEYS = """
findings[].action findings[].key findings[].sentence findings[].severity findings[].title findings[].weight made
measured.bias.by_ratio[].at_least measured.bias.by_ratio[].longer_chosen measured.bias.by_ratio[].pairs
measured.bias.chosen_mean measured.bias.equal measured.bias.longer measured.bias.pairs measured.bias.rejected_mean
measured.bias.rule_accuracy measured.bias.rule_error measured.bias.shorter measured.computed.answer_once
measured.computed.prompt_once measured.computed.two_rows measured.computed.two_rows_padded measured.different_language
measured.faults.* measured.histogram.counts.*[] measured.histogram.edges[] measured.languages.*.chosen
measured.languages.*.prompt measured.languages.*.rejected measured.lengths.*.max measured.lengths.*.mean
measured.lengths.*.p5 measured.lengths.*.p50 measured.lengths.*.p95 measured.lengths.*.p99 measured.lengths.*.total
measured.limits.beyond.* measured.limits.cut measured.limits.dropped measured.limits.keeps_99
measured.limits.keeps_all measured.limits.max_length measured.limits.max_prompt_length measured.limits.pairs
measured.limits.truncation measured.margins.histogram.counts.*[] measured.margins.histogram.edges[]
measured.margins.mean measured.margins.negative measured.margins.p5 measured.margins.p50 measured.margins.p95
measured.margins.pairs measured.margins.zero measured.marks.*.chosen measured.marks.*.only_chosen
measured.marks.*.only_rejected measured.marks.*.rejected measured.multi_turn measured.pairs measured.rejects.*
measured.repeats.chosen.example measured.repeats.chosen.pairs measured.repeats.chosen.share
measured.repeats.chosen.text measured.repeats.conflicts measured.repeats.duplicates
measured.repeats.most_of_one_prompt measured.repeats.openings[].chosen measured.repeats.openings[].example
measured.repeats.openings[].rejected measured.repeats.openings[].side measured.repeats.openings[].text
measured.repeats.prompts measured.repeats.rejected.example measured.repeats.rejected.pairs
measured.repeats.rejected.share measured.repeats.rejected.text measured.rows_read measured.sources[].chosen_tokens
measured.sources[].faults.* measured.sources[].longer_chosen measured.sources[].margin measured.sources[].name
measured.sources[].pairs measured.sources[].prompt_tokens measured.sources[].prompts
measured.sources[].rejected_tokens measured.sources[].template.example measured.sources[].template.pairs
measured.sources[].template.share measured.sources[].template.text measured.unpaired pairs[].chosen.left_out
pairs[].chosen.more pairs[].chosen.parts[].scored pairs[].chosen.parts[].text pairs[].chosen.scored
pairs[].chosen.tokens pairs[].dataset pairs[].id pairs[].margin pairs[].prompt pairs[].prompt_left_out
pairs[].reasons[] pairs[].rejected.left_out pairs[].rejected.more pairs[].rejected.parts[].scored
pairs[].rejected.parts[].text pairs[].rejected.scored pairs[].rejected.tokens pairs[].source pairs[].twin rejects[].*
schema settings.* title verdict.answer verdict.sentence
"""
