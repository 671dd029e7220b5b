"""One pair on the page, its scored tokens marked."""

from dpo.data_report.html import Html, tag
from dpo.data_report.shown import ShownAnswer, ShownPair


def pair_section(pair: ShownPair, number: int) -> Html:
    """Prompt, chosen, rejected, with the reasons above."""
    dataset = "" if pair.source.startswith(pair.dataset) else pair.dataset
    where = " · ".join(part for part in (pair.source, dataset, f"id {pair.id}") if part)
    facts = [tag("li", reason) for reason in pair.reasons]
    if pair.twin:
        facts.append(tag("li", f"the other pair is {pair.twin}"))
    if pair.margin is not None:
        facts.append(tag("li", f"margin {pair.margin:g}"))
    return tag(
        "div",
        tag("h3", f"{number}. {where}"),
        tag("ul", *facts),
        tag("b", "Prompt"),
        tag("pre", *_left_out(pair.prompt_left_out), tag("bdi", pair.prompt)),
        tag("b", f"Chosen ({_size(pair.chosen)})"),
        _answer(pair.chosen, "chosen"),
        tag("b", f"Rejected ({_size(pair.rejected)})"),
        _answer(pair.rejected, "rejected"),
        class_="pair",
    )


def _size(answer: ShownAnswer) -> str:
    scored = "" if answer.scored == answer.tokens else f", {answer.scored:,} of them scored"
    return f"{answer.tokens:,} tokens{scored}"


def _answer(answer: ShownAnswer, side: str) -> Html:
    parts = [tag("mark" if part.scored else "span", tag("bdi", part.text)) for part in answer.parts]
    more = [_gap(f"… {answer.more:,} more characters")] if answer.more else []
    return tag("pre", *_left_out(answer.left_out), *parts, *more, class_=side)


def _left_out(count: int) -> list[Html]:
    return [_gap(f"{count:,} characters before this …\n")] if count else []


def _gap(words: str) -> Html:
    return tag("span", words, class_="small")
