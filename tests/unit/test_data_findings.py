"""Findings: each planted fault is found and no other, clean pairs give none, and the numbers are right."""

import random
import re
from collections.abc import Callable

import numpy as np
import pytest
from findings_data import Words, answer, changed, clean_pairs, columns_over, measured, pair, texts

from dpo.data.findings.faults import FAULTS
from dpo.data.findings.findings import THRESHOLDS, findings, lines, percent, verdict
from dpo.data.findings.lengths import histogram, length_bias
from dpo.data.findings.table import Table, first_of
from dpo.data.pair import Pair, Reject
from dpo.data.text.limits import PAIR_TOO_LONG

pytestmark = pytest.mark.unit

Plant = Callable[[list[Pair]], list[Pair]]


def keys(pairs: list[Pair]) -> list[str]:
    return [finding.key for finding in findings(measured(pairs))]


@pytest.mark.parametrize("seed", range(5))
def test_clean_pairs_give_no_finding(seed: int) -> None:
    found = measured(clean_pairs(seed=seed))
    assert findings(found) == []
    assert verdict(found).answer == "no"
    assert found.suspects == []


def bold(text: str) -> str:
    return f"**{text.upper()}**\n\n"


def listed(text: str) -> str:
    return "- " + text.replace(". ", ".\n- ")


SPANISH = "No es lo que se dice de los que viven en las casas de la ciudad, por eso el rey no va con ellos."
REFUSED = "I'm sorry, but I can't help with that."


def every(step: int, change: Callable[[str, str, str], tuple[str, str, str]]) -> Plant:
    return lambda pairs: changed(pairs, step, change)


def off_topic(pairs: list[Pair]) -> list[Pair]:
    elsewhere = [texts(one)[2] for one in pairs]
    return [
        pair(*texts(one)[:2], elsewhere[number - 7], number) if number % 5 == 0 else one
        for number, one in enumerate(pairs)
    ]


def one_prompt(pairs: list[Pair]) -> list[Pair]:
    return [pair("What is the story?", *texts(one)[1:], n) if n % 5 == 0 else one for n, one in enumerate(pairs)]


def margins(value: float) -> Plant:
    return lambda pairs: [pair(*texts(one), n, margin=value if n % 4 == 0 else 1.0) for n, one in enumerate(pairs)]


PLANTED: dict[str, Plant] = {
    "conflict": lambda pairs: [*pairs, *(pair(p, r, c, 900) for p, c, r in map(texts, pairs[:8]))],
    "duplicate": lambda pairs: [*pairs, *pairs[:40]],
    "formatting_only": every(10, lambda p, c, r: (p, c, bold(c))),
    "near_identical": every(10, lambda p, c, r: (p, c, f"Yes! {c}")),
    "same_start": every(10, lambda p, c, r: (p, c, f"{c} Nothing else.")),
    "chosen_empty": every(40, lambda p, c, r: (p, "N/A", r)),
    "rejected_empty": every(20, lambda p, c, r: (p, c, "...")),
    "chosen_loop": every(40, lambda p, c, r: (p, f"{c} {'So it goes on. ' * 60}", r)),
    "rejected_loop": every(6, lambda p, c, r: (p, c, f"{r} {'So it goes on. ' * 60}")),
    "chosen_refuses": every(8, lambda p, c, r: (p, f"{REFUSED} {c}", r)),
    "rejected_refuses": every(3, lambda p, c, r: (p, c, f"{REFUSED} {r}")),
    "chosen_unfinished": every(20, lambda p, c, r: (p, f"{c} And so the people of the story went to the sea", r)),
    "rejected_unfinished": every(4, lambda p, c, r: (p, c, f"{r} And so the people of the story went to the sea")),
    "chosen_language": every(20, lambda p, c, r: (p, f"{p} {SPANISH * 2}".replace("What is the story of", "¿"), r)),
    "rejected_language": every(12, lambda p, c, r: (p, c, f"{p} {SPANISH * 2}".replace("What is the story of", "¿"))),
    "chosen_html": every(20, lambda p, c, r: (p, c.replace(". ", ".<br/>&nbsp;"), r)),
    "rejected_off_topic": off_topic,
    "margin_negative": margins(-0.5),
    "margin_zero": margins(0.0),
    "style_markdown": every(2, lambda p, c, r: (p, listed(c), r)),
    "style_code": every(2, lambda p, c, r: (p, c, f"{r}\n```\nx\n```")),
    "style_link": every(2, lambda p, c, r: (p, f"{c} See https://example.org.", r)),
    "opening": every(3, lambda p, c, r: (p, c, f"Sure, I'd be happy to help! {r}")),
    "same_chosen": every(20, lambda p, c, r: (p, "You are welcome, and so is the story.", r)),
    "same_rejected": every(8, lambda p, c, r: (p, c, "Nobody knows the story, it was never told.")),
    "one_prompt": one_prompt,
    "length": every(2, lambda p, c, r: (p, f"{c} {answer(random.Random(c), 'it', 6)}", r)),
}


@pytest.mark.parametrize("key", PLANTED)
def test_a_planted_fault_is_found(key: str) -> None:
    found = measured(PLANTED[key](clean_pairs()))
    by_key = {finding.key: finding for finding in findings(found)}
    assert key in by_key
    if fault := next((fault for fault in FAULTS if fault.key == key), None):
        assert f"({found.faults[key]:,})" in by_key[key].sentence
        assert key in {name for suspect in found.suspects for name in suspect.faults}
        assert fault.title == by_key[key].title


def test_every_threshold_has_a_planted_fault() -> None:
    elsewhere = {"too_long", "cut", "bad_rows", "chosen_off_topic"}
    assert set(THRESHOLDS) - elsewhere == set(PLANTED)
    assert all(warn < bad for warn, bad in THRESHOLDS.values())


def test_off_topic_is_told_of_one_side_alone() -> None:
    """The other side's share is what the rough look finds where nothing is wrong."""
    pairs = off_topic(clean_pairs())
    assert "rejected_off_topic" in keys(pairs) and "chosen_off_topic" not in keys(pairs)
    swapped = [pair(p, r, c, n) for n, (p, c, r) in enumerate(map(texts, pairs))]
    assert "chosen_off_topic" in keys(swapped) and "rejected_off_topic" not in keys(swapped)
    both = pairs[:200] + swapped[200:]
    assert not {"chosen_off_topic", "rejected_off_topic"} & set(keys(both))


def test_lost_rows_and_pairs_are_found() -> None:
    bad = [Reject(source=f"a.jsonl:{n}", reason="empty answer", detail="chosen is blank") for n in range(30)]
    long = [Reject(source=f"b.jsonl:{n}", reason=PAIR_TOO_LONG, detail="") for n in range(80)]
    found = measured(clean_pairs(), bad, long)
    first, second = findings(found)
    assert (first.key, first.severity) == ("too_long", "bad") and "17 % of the pairs (80)" in first.sentence
    assert first.action.startswith(f"data.max_length={found.limits.keeps_99} ")
    assert (second.key, second.severity) == ("bad_rows", "warn") and "30 empty answer" in second.sentence
    assert found.rows_read == found.pairs + sum(found.rejects.values()) + sum(found.dropped.values())


def test_the_worst_come_first_and_three_lines_are_told() -> None:
    pairs = PLANTED["duplicate"](PLANTED["conflict"](PLANTED["chosen_html"](PLANTED["opening"](clean_pairs()))))
    found = findings(measured(pairs))
    assert len(found) > 3
    ranks = [(finding.severity != "bad", -finding.weight) for finding in found]
    assert ranks == sorted(ranks)
    assert [line.split(" -> ") for line in lines(found)] == [[one.sentence, one.action] for one in found[:3]]
    assert lines([]) == []


def test_answers_of_one_length_are_said_where_there_are_many() -> None:
    said = verdict(measured(sized([(9, 9)] * 60 + [(9, 5)] * 30 + [(5, 9)] * 10))).sentence
    assert "longer answer is the chosen one in 75 % of the 40 % of pairs whose lengths differ" in said


def test_one_or_two_pairs_make_no_finding() -> None:
    pairs = clean_pairs(60)
    pairs[0] = pair(texts(pairs[0])[0], "N/A", texts(pairs[0])[2])
    found = measured(pairs)
    assert findings(found) == []
    assert [(suspect.number, suspect.faults[0]) for suspect in found.suspects] == [(0, "chosen_empty")]


def sized(lengths: list[tuple[int, int]]) -> list[Pair]:
    """Pairs whose answers have so many words."""
    return [pair(f"prompt {n}", f"a{n} " * c, f"b{n} " * r, n) for n, (c, r) in enumerate(lengths)]


def bias_of(lengths: list[tuple[int, int]]) -> tuple[float, float]:
    found = length_bias(Table(columns_over(sized(lengths), Words())))
    assert found is not None
    return found.longer, found.rule_accuracy


def test_the_rule_on_lengths_sees_more_than_which_is_longer() -> None:
    """The longer is chosen when it is a little longer and rejected when it is much longer."""
    rng = random.Random(1)
    lengths = []
    for _ in range(2000):
        short, much = rng.randint(20, 40), rng.random() < 0.5
        lengths.append((short, 4 * short) if much else (int(1.3 * short), short))
    longer, accuracy = bias_of(lengths)
    assert abs(longer - 0.5) < 0.04 and accuracy > 0.97


def test_the_rule_on_lengths_learns_nothing_from_chance() -> None:
    rng = random.Random(2)
    lengths = [(rng.randint(5, 80), rng.randint(5, 80)) for _ in range(2000)]
    assert abs(bias_of(lengths)[1] - 0.5) < 0.04
    assert bias_of([(9, 9)] * 50) == (0.0, 0.5)
    assert bias_of([(9, 5)] * 50) == (1.0, 1.0)
    assert bias_of([(5, 9)] * 50) == (0.0, 1.0)


@pytest.mark.parametrize(("share", "answer"), [(0.5, "no"), (0.62, "partly"), (0.9, "yes")])
def test_the_verdict_follows_the_share_of_longer_chosen(share: float, answer: str) -> None:
    rng = random.Random(3)
    lengths = [(30, 20) if rng.random() < share else (20, 30) for _ in range(1500)]
    said = verdict(measured(sized(lengths)))
    assert said.answer == answer
    assert "longer" in said.sentence or share == 0.5


def test_a_preference_for_short_answers_is_told_as_such() -> None:
    found = measured(sized([(20, 30)] * 100))
    assert verdict(found).answer == "yes" and "The shorter answer is the chosen one in 100 %" in verdict(found).sentence
    assert "the shorter one wins" in findings(found)[0].title


def test_unpaired_rows_are_counted_and_not_compared() -> None:
    pairs = clean_pairs(40)
    alone = [pair(p, c, "", n) if n % 2 else pair(p, "", r, n) for n, (p, c, r) in enumerate(map(texts, pairs))]
    found = measured(alone)
    assert (found.pairs, found.unpaired, found.bias) == (40, 40, None)
    assert verdict(found).answer == "unpaired" and findings(found) == []
    assert re.search(r"single answer\. Tokens on average: good ones \d+ and bad ones \d+\.", verdict(found).sentence)
    mixed = measured([*pairs, *alone])
    assert mixed.unpaired == 40 and mixed.bias is not None and mixed.bias.pairs == 40


def test_twins_find_each_other() -> None:
    pairs = clean_pairs(20)
    p, c, r = texts(pairs[4])
    pairs.append(pair(p, bold(r), c, 20))  # formatting does not hide it
    table = Table(columns_over(pairs, Words()))
    assert table.twin[4] == 20 and table.twin[20] == 4
    assert (np.delete(table.twin, [4, 20]) == -1).all()


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (0, "0 %"),
        (0.00017, "0.02 %"),
        (0.00996, "1.0 %"),
        (0.034, "3.4 %"),
        (0.0997, "10 %"),
        (0.125, "12 %"),
        (1, "100 %"),
    ],
)
def test_shares_have_two_digits_that_count(share: float, said: str) -> None:
    assert percent(share) == said


def test_first_of() -> None:
    assert first_of(np.array([3, 1, 3, 3, 2, 1])).tolist() == [True, True, False, False, True, False]


def test_tokens_of_the_ways_to_compute() -> None:
    """Two pairs of one prompt that share an answer."""
    pairs = [pair("a b", "c", "d e", 0), pair("a b", "c", "f", 1)]
    found = measured(pairs).computed  # a blank is a token, as is </s>: prompt 3, answers 3, 5, 3, 3
    assert found.two_rows == (3 + 3) + (3 + 5) + (3 + 3) + (3 + 3)
    assert found.two_rows_padded == 4 * 8
    assert found.prompt_once == (3 + 3 + 5) + (3 + 3 + 3)
    assert found.answer_once == 3 + 3 + 5 + 3


def test_limits_count_what_is_longer() -> None:
    found = measured(sized([(100, 10)] * 99 + [(2000, 10)])).limits  # a word and a blank each; prompt 3, </s> 1
    assert (found.keeps_99, found.keeps_all) == (204, 4004)
    assert [found.beyond[limit] for limit in (256, 2048, 4096)] == [1, 1, 0]


def test_histograms_lose_nothing() -> None:
    values = np.array([0, 1, 5, 5, 9, 100_000])
    found = histogram({"a": values, "b": values[:2]}, low=0.0)
    assert sum(found.counts["a"]) == 6 and sum(found.counts["b"]) == 2
    assert len(found.edges) == len(found.counts["a"]) + 1 and found.edges == sorted(found.edges)
    same = histogram({"a": np.full(4, 7.5)})
    assert sum(same.counts["a"]) == 4


def test_sources_are_told_apart() -> None:
    one, two = clean_pairs(30), clean_pairs(20, seed=9)
    named = [pair(*texts(p), n, dataset="one") for n, p in enumerate(one)]
    named += [pair(*texts(p), n, dataset="two", margin=2.0) for n, p in enumerate([*two, *two[:5]])]
    first, second = measured(named).sources
    assert (first.name, first.pairs, first.prompts, first.margin) == ("one", 30, 30, None)
    assert (second.name, second.pairs, second.prompts, second.margin) == ("two", 25, 20, 2.0)
    assert first.faults["duplicate"] == 0 and second.faults["duplicate"] == pytest.approx(0.2)


def test_prompts_of_a_template_are_seen() -> None:
    start = "Translate the following sentence into another language, please: "
    pairs = [pair(f"{start}{texts(one)[0]}", *texts(one)[1:], n) for n, one in enumerate(clean_pairs(50))]
    (source,) = measured(pairs[:30] + clean_pairs(50)[30:]).sources
    assert (source.template.pairs, source.template.share) == (30, pytest.approx(0.6))
    assert start in source.template.text


def test_the_order_of_the_pairs_does_not_count() -> None:
    pairs = PLANTED["opening"](PLANTED["conflict"](clean_pairs()))
    words = Words()
    one, other = measured(pairs, words=words), measured(pairs[::-1], words=words)
    assert one.faults == other.faults and one.marks == other.marks and one.lengths == other.lengths
    assert one.bias is not None and other.bias is not None and one.bias.rule_accuracy == other.bias.rule_accuracy
