"""The sections about lengths: distributions, limits, and what is computed."""

from dpo.data.findings.findings import percent
from dpo.data.findings.measure import Measured
from dpo.data.findings.tokens import PADDED_PAIRS, Computed
from dpo.data_report import pictures
from dpo.data_report.html import Html, table, tag


def lengths_section(found: Measured) -> list[Html]:
    rows = [
        [side, f"{s.mean:,.0f}", *(f"{value:,.0f}" for value in (s.p5, s.p50, s.p95, s.p99, s.max)), f"{s.total:,}"]
        for side, s in found.lengths.items()
    ]
    drawn = [
        pictures.histogram(found.histogram, ["chosen", "rejected"], "tokens of the answers"),
        pictures.histogram(found.histogram, ["prompt"], "tokens of the prompt"),
    ]
    if found.bias:
        drawn.append(pictures.by_ratio(found.bias.by_ratio))
    head = ["Tokens", "mean", "5 %", "median", "95 %", "99 %", "longest", "together"]
    kinds = f"{percent(found.multi_turn)} of the prompts have several turns. " if found.multi_turn else ""
    kinds += f"{found.unpaired:,} rows have one answer only." if found.unpaired else ""
    return [tag("div", *drawn, class_="grid"), table(head, rows), tag("p", kinds, class_="small")]


def limits_section(found: Measured) -> list[Html]:
    limits = found.limits
    settings = f"data.max_length={limits.max_length}, data.truncation={limits.truncation}"
    if limits.max_prompt_length is not None:
        settings += f", data.max_prompt_length={limits.max_prompt_length}"
    now = (
        f"At {settings}, {limits.dropped:,} of {limits.pairs:,} pairs are left out "
        f"({percent(limits.dropped / limits.pairs)}) and {limits.cut:,} are cut. "
    )
    advice = f"data.max_length={limits.keeps_99} leaves 99 % of them whole, {limits.keeps_all} all."
    told = sum(1 for count in limits.beyond.values() if count) + 1  # up to the first that keeps all
    rows = [
        [f"{limit:,}", f"{count:,}", percent(count / limits.pairs)]
        for limit, count in list(limits.beyond.items())[:told]
    ]
    return [tag("p", now, tag("b", advice)), table(["data.max_length", "pairs longer", "share"], rows, numbers_from=0)]


def computed_section(computed: Computed) -> Html:
    """Against the usual way, two padded rows per pair."""
    ways = (
        (f"prompt + answer twice per pair, padded in batches of {PADDED_PAIRS} pairs", computed.two_rows_padded),
        ("prompt + answer twice per pair, no padding", computed.two_rows),
        ("each prompt once per pair", computed.prompt_once),
        ("each prompt and each answer once (data.group_by_prompt)", computed.answer_once),
    )
    rows = [
        [words, f"{count:,}", percent(count / computed.two_rows_padded), _bar(count / computed.two_rows_padded)]
        for words, count in ways
    ]
    return table(["One pass over the data", "tokens", "", ""], rows)


def _bar(share: float) -> Html:
    return tag("div", style=f"width:{6 * share:.2f}rem;height:.8rem;background:#0550ae")
