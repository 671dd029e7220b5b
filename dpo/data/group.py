"""TokenizedPairs of one prompt -> PromptGroup, and a group in parts."""

from collections.abc import Callable, Iterator
from math import isnan

from dpo.data.batch import PromptGroup
from dpo.data.pair import Spans, TokenizedPair
from dpo.errors import DataError

SUPPLIED_SPREAD = 0.05  # nats per token that two computations of one log-probability differ by at most, bf16 included


def alone(pair: TokenizedPair) -> PromptGroup:
    """Nothing but the chosen response of a pair."""
    return PromptGroup(
        prompt_ids=pair.prompt_ids,
        responses=[pair.chosen_ids],
        contexts=[pair.chosen_context],
        pairs=[(0, None)],
        pair_ids=[pair.id],
        sources=[pair.source],
        datasets=[pair.dataset],
    )


def together(members: list[TokenizedPair]) -> PromptGroup:
    """Pairs and unpaired rows of one prompt, each response once."""
    answers: list[tuple[list[int], Spans]] = []

    def number(ids: list[int], context: Spans) -> int | None:
        if not ids:
            return None
        if (ids, context) not in answers:
            answers.append((ids, context))
        return answers.index((ids, context))

    pairs = [
        (number(pair.chosen_ids, pair.chosen_context), number(pair.rejected_ids, pair.rejected_context))
        for pair in members
    ]
    margins = [pair.margin for pair in members if pair.margin is not None]
    return PromptGroup(
        prompt_ids=members[0].prompt_ids,
        pairs=pairs,
        responses=[ids for ids, _ in answers],
        contexts=[context for _, context in answers],
        pair_ids=[pair.id for pair in members],
        sources=[pair.source for pair in members],
        datasets=[pair.dataset for pair in members],
        margins=margins if len(margins) == len(members) else None,
    )


def values_of(group: PromptGroup, pair_values: list[list[float]]) -> list[float] | None:
    """The value of every response of `group`, from those of (chosen, rejected) of every pair; None unless all are
    known. Of a response that stands in several pairs the first counts."""
    values: dict[int, float] = {}
    for responses, found in zip(group.pairs, pair_values, strict=True):
        for response, value in zip(responses, found, strict=True):
            if response is not None:
                values.setdefault(response, value)
    return None if any(map(isnan, values.values())) else [values[response] for response in range(len(values))]


def require_agreement(group: PromptGroup, pair_values: list[list[float]]) -> None:
    """Raises DataError when two rows give one response values that cannot both be right. See `values_of`."""
    values = values_of(group, pair_values)
    assert values is not None
    for responses, found, source in zip(group.pairs, pair_values, group.sources, strict=True):
        for response, value in zip(responses, found, strict=True):
            if response is not None and abs(values[response] - value) > SUPPLIED_SPREAD * len(
                group.responses[response]
            ):
                raise DataError(
                    f"{group.sources[0]} and rows with the same prompt give one answer two reference "
                    f"log-probabilities, {values[response]:g} and {value:g} (the second in {source}): correct them, or "
                    "set data.reference_logps=ignore"
                )


def split_group(group: PromptGroup, fits: Callable[[PromptGroup], bool]) -> Iterator[PromptGroup]:
    """Parts of a group that fit, pair by pair; a part is never less than one pair. A response whose pairs stand in
    several parts is computed in each."""
    if len(group.pairs) < 2 or fits(group):
        yield group
        return
    pairs = [0]
    for i in range(1, len(group.pairs)):
        if not fits(_part(group, [*pairs, i])):
            yield _part(group, pairs)
            pairs = []
        pairs.append(i)
    yield _part(group, pairs)


def _part(group: PromptGroup, pairs: list[int]) -> PromptGroup:
    """The group of these of its pairs."""
    kept = list(dict.fromkeys(r for i in pairs for r in group.pairs[i] if r is not None))
    new: dict[int | None, int | None] = {old: i for i, old in enumerate(kept)} | {None: None}
    return PromptGroup(
        prompt_ids=group.prompt_ids,
        responses=[group.responses[r] for r in kept],
        contexts=[group.contexts[r] for r in kept],
        pairs=[(new[group.pairs[i][0]], new[group.pairs[i][1]]) for i in pairs],
        pair_ids=[group.pair_ids[i] for i in pairs],
        sources=[group.sources[i] for i in pairs],
        datasets=[group.datasets[i] for i in pairs],
        reference=group.reference and [group.reference[r] for r in kept],
        margins=group.margins and [group.margins[i] for i in pairs],
    )
