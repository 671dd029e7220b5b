"""From measures to sentences: what a person should know before spending GPU hours, the worst first."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt

from dpo.data.findings.faults import FAULTS
from dpo.data.findings.lengths import LengthBias
from dpo.data.findings.measure import Measured

FIRST = 3  # findings that a person is told first
LEAST_PAIRS = 3  # with a fault: one or two are shown among the suspects and make no finding
ENOUGH_PAIRS = 30  # for a word on length
MANY_EQUAL = 0.05  # of the pairs have two answers of one length: said where it is more
SURE = 1.64  # standard errors taken off a difference before it counts: one-sided 95 %

THRESHOLDS = {  # key -> shares from which on a finding is a warning, and bad
    # Accuracy of the length-only rule above chance. Careful human data has up to 0.08, since the longer answer often is
    # the better one; at 0.15 writing more is the cheapest way to a lower loss.
    "length": (0.08, 0.15),
    # Of the pairs: those in which one side alone has it, minus those in which the other alone has.
    "style_markdown": (0.15, 0.4),
    "style_code": (0.15, 0.4),
    "style_link": (0.15, 0.4),
    "opening": (0.05, 0.25),
    # Of the pairs.
    "same_chosen": (0.02, 0.2),
    "same_rejected": (0.05, 0.4),
    "one_prompt": (0.1, 0.5),
    "too_long": (0.01, 0.1),
    "cut": (0.05, 0.5),
    "bad_rows": (0.01, 0.1),  # of the rows
    **{fault.key: (fault.warn, fault.bad) for fault in FAULTS},
}
STYLES = {"markdown": "Markdown (lists, headings, bold)", "code": "A block of code", "link": "A link"}
PROMPTS_MATTER_FROM = 100  # pairs


@dataclass(kw_only=True, slots=True)
class Finding:
    """One thing to know."""

    key: str
    severity: str  # "warn" or "bad"
    title: str
    sentence: str  # with the numbers
    action: str  # what to do, with the setting where there is one
    weight: float  # share over the threshold of "bad": orders the findings


@dataclass(kw_only=True, slots=True)
class Verdict:
    """Will this data teach length instead of quality?"""

    answer: str  # "no", "partly", "yes", "unknown" (too few pairs) or "unpaired"
    sentence: str


def verdict(measured: Measured) -> Verdict:
    bias = measured.bias
    if bias is None:
        lengths = ((name, measured.lengths.get(side)) for name, side in (("good", "chosen"), ("bad", "rejected")))
        means = " and ".join(f"{name} ones {found.mean:,.0f}" for name, found in lengths if found)
        return Verdict(answer="unpaired", sentence=f"Every row has a single answer. Tokens on average: {means}.")
    if bias.pairs < ENOUGH_PAIRS:
        return Verdict(answer="unknown", sentence=f"{bias.pairs} pairs have two answers; {ENOUGH_PAIRS} are needed.")
    warn, bad = THRESHOLDS["length"]
    share = _length_share(bias)
    means = f"Chosen answers have {bias.chosen_mean:,.0f} tokens on average, rejected ones {bias.rejected_mean:,.0f}."
    answer = "yes" if share >= bad else "partly" if share >= warn else "no"
    return Verdict(answer=answer, sentence=f"{_lengths_say(bias)} {means}")


def findings(measured: Measured) -> list[Finding]:
    """What is worth a person's time, the most important first; empty when nothing is."""
    parts = (_length, _faults, _style, _opening, _same_answer, _one_prompt, _lost)
    found = [finding for part in parts for finding in part(measured)]
    return sorted(found, key=lambda finding: (finding.severity != "bad", -finding.weight))


def lines(found: list[Finding], most: int = FIRST) -> list[str]:
    """The first findings for a log, one line each."""
    return [f"{finding.sentence} -> {finding.action}" for finding in found[:most]]


def percent(share: float) -> str:
    """ "12 %", "3.4 %", "0.02 %": two digits that count."""
    value = 100 * share
    digits = 0 if value >= 9.95 or value == 0 else 1 if value >= 0.995 else 2
    return f"{value:.{digits}f} %"


def _judged(key: str, share: float, title: str, sentence: str, action: str) -> Iterator[Finding]:
    """A finding where `share` reaches a threshold."""
    warn, bad = THRESHOLDS[key]
    if share >= warn:
        severity = "bad" if share >= bad else "warn"
        yield Finding(key=key, severity=severity, title=title, sentence=sentence, action=action, weight=share / bad)


def _length_share(bias: LengthBias) -> float:
    """Accuracy above chance; 0 where chance explains it."""
    above = bias.rule_accuracy - 0.5
    return above if above > SURE * bias.rule_error else 0.0


def _lengths_say(bias: LengthBias) -> str:
    word, share = ("longer", bias.longer) if bias.longer >= bias.shorter else ("shorter", bias.shorter)
    differing = max(1 - bias.equal, 1e-9)
    where = "of the pairs" if bias.equal < MANY_EQUAL else f"of the {percent(differing)} of pairs whose lengths differ"
    return (
        f"The {word} answer is the chosen one in {percent(share / differing)} {where}; a rule that sees nothing but "
        f"the two lengths is right in {percent(bias.rule_accuracy)} (chance: 50 %)."
    )


def _length(measured: Measured) -> Iterator[Finding]:
    bias = measured.bias
    if bias is None or bias.pairs < ENOUGH_PAIRS:
        return
    word = "longer" if bias.longer >= bias.shorter else "shorter"
    yield from _judged(
        "length",
        _length_share(bias),
        f"Length tells the answers apart: the {word} one wins",
        _lengths_say(bias),
        f"add pairs in which the {word} answer is the worse one, and watch the length of sampled answers",
    )


def _faults(measured: Measured) -> Iterator[Finding]:
    for fault in FAULTS:
        count = measured.faults[fault.key]
        more = count - measured.faults.get(fault.against, 0)
        if more >= LEAST_PAIRS:
            sentence = f"{percent(count / measured.pairs)} of the pairs ({count:,}): {fault.says}."
            yield from _judged(fault.key, more / measured.pairs, fault.title, sentence, fault.action)


def _style(measured: Measured) -> Iterator[Finding]:
    for mark, words in STYLES.items():
        sides = measured.marks[mark]
        noise = SURE * sqrt((sides.only_chosen + sides.only_rejected) / measured.pairs)
        yield from _judged(
            f"style_{mark}",
            abs(sides.only_chosen - sides.only_rejected) - noise,
            f"{words.partition(' (')[0]} tells the answers apart",
            f"{words} stands in {percent(sides.chosen)} of the chosen answers and in {percent(sides.rejected)} of the "
            "rejected ones.",
            "balance it, or take it out of both sides, unless it is what should be learnt",
        )


def _opening(measured: Measured) -> Iterator[Finding]:
    for opening in measured.repeats.openings[:1]:
        noise = SURE * sqrt((opening.chosen + opening.rejected) / measured.pairs)
        yield from _judged(
            "opening",
            abs(opening.chosen - opening.rejected) - noise,
            "The first words tell the answers apart",
            f"“{opening.text}” opens {percent(opening.chosen)} of the chosen answers and {percent(opening.rejected)} "
            "of the rejected ones.",
            "reword or remove such openings: a model learns the phrase before anything else",
        )


def _same_answer(measured: Measured) -> Iterator[Finding]:
    for side, answer in (("chosen", measured.repeats.chosen), ("rejected", measured.repeats.rejected)):
        if answer.pairs >= LEAST_PAIRS:
            yield from _judged(
                f"same_{side}",
                answer.share,
                f"One {side} answer for many prompts",
                f"{answer.pairs:,} prompts ({percent(answer.share)} of the pairs) have the same {side} answer: "
                f"“{answer.text}”.",
                "right where there are few answers to choose from; else it is known without reading the prompt",
            )


def _one_prompt(measured: Measured) -> Iterator[Finding]:
    most, pairs = measured.repeats.most_of_one_prompt, measured.pairs
    if pairs >= PROMPTS_MATTER_FROM:
        yield from _judged(
            "one_prompt",
            most / pairs,
            "One prompt has many of the pairs",
            f"{most:,} of {pairs:,} pairs have the same prompt; there are {measured.repeats.prompts:,} prompts in all.",
            "keep fewer pairs of it, or add prompts",
        )


def _lost(measured: Measured) -> Iterator[Finding]:
    """Rows and pairs that are not trained on, or not whole."""
    limits, rows = measured.limits, measured.rows_read
    room = f"data.max_length={limits.keeps_99} keeps 99 % of the pairs whole"
    for key, title, what, count in (
        ("too_long", "Pairs left out for their length", "left out for their length", limits.dropped),
        ("cut", "Pairs cut to fit", "cut to fit", limits.cut),
    ):
        share = count / limits.pairs
        sentence = f"{percent(share)} of the pairs ({count:,}) are {what}, at data.max_length={limits.max_length}."
        yield from _judged(key, share, title, sentence, room)
    count = sum(measured.rejects.values())
    reasons = ", ".join(f"{number:,} {reason}" for reason, number in list(measured.rejects.items())[:3])
    sentence = f"{percent(count / rows)} of the rows ({count:,}) cannot be used: {reasons}."
    action = "mend them (python -m dpo prepare lists each in rejects.jsonl); data.on_bad_row=skip does without"
    yield from _judged("bad_rows", count / rows, "Rows that cannot be used", sentence, action)
