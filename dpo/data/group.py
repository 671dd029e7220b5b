"""TokenizedPair -> PromptGroup: which responses are computed, and which of them share a prompt."""

from collections.abc import Callable, Iterator

from dpo.data.batch import PromptGroup
from dpo.data.pair import Spans, TokenizedPair
from dpo.errors import DataError

SUPPLIED_SPREAD = 0.05  # nats per token that two computations of one log-probability differ by at most, bf16 included


def group_pairs(pairs: list[TokenizedPair], most: int = 1) -> list[PromptGroup]:
    """Up to `most` pairs of one prompt together in a group, each response once; groups in the order of their first
    pair. The groups of a prompt with more pairs share nothing."""
    found: list[list[TokenizedPair]] = []
    unfinished: dict[int, list[TokenizedPair]] = {}
    for pair in pairs:
        # The hash of the tuple instead of the tuple itself: a million prompts of 200 tokens would take 1.6 GB.
        key = hash(tuple(pair.prompt_ids))
        members = unfinished.get(key, [])
        if not members or len(members) >= most or members[0].prompt_ids != pair.prompt_ids:
            members = unfinished[key] = []
            found.append(members)
        members.append(pair)
    return [_group(members) for members in found]


def chosen_alone(pairs: list[TokenizedPair]) -> list[PromptGroup]:
    """One group per pair with nothing but its chosen response, for losses that compare nothing."""
    return [
        PromptGroup(
            prompt_ids=pair.prompt_ids,
            responses=[pair.chosen_ids],
            contexts=[pair.chosen_context],
            pairs=[],
            pair_ids=[pair.id],
            sources=[pair.source],
        )
        for pair in pairs
    ]


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


def _group(members: list[TokenizedPair]) -> PromptGroup:
    answers: list[tuple[list[int], Spans]] = []

    def number(ids: list[int], context: Spans) -> int:
        if (ids, context) not in answers:
            answers.append((ids, context))
        return answers.index((ids, context))

    pairs = [
        (number(pair.chosen_ids, pair.chosen_context), number(pair.rejected_ids, pair.rejected_context))
        for pair in members
    ]
    return PromptGroup(
        prompt_ids=members[0].prompt_ids,
        pairs=pairs,
        responses=[ids for ids, _ in answers],
        contexts=[context for _, context in answers],
        pair_ids=[pair.id for pair in members],
        sources=[pair.source for pair in members],
        reference=_supplied(members, pairs),
    )


def _supplied(members: list[TokenizedPair], pairs: list[tuple[int, int]]) -> list[float] | None:
    """The reference's log-probability of every response, when every row brings its own; else None.

    Raises:
        DataError: two rows give the same response values that cannot both be right.
    """
    values: dict[int, float] = {}
    for pair, (chosen, rejected) in zip(members, pairs, strict=True):
        if pair.reference is None:
            return None
        sides = ((chosen, pair.chosen_ids), (rejected, pair.rejected_ids))
        for (response, ids), value in zip(sides, pair.reference, strict=True):
            known = values.setdefault(response, value)
            if abs(known - value) > SUPPLIED_SPREAD * len(ids):
                raise DataError(
                    f"{members[0].source} and rows with the same prompt give one answer two reference "
                    f"log-probabilities, {known:g} and {value:g} (the second in {pair.source}): correct them, or set "
                    "data.reference_logps=ignore"
                )
    return [values[response] for response in range(len(values))]


def _part(group: PromptGroup, pairs: list[int]) -> PromptGroup:
    """The group of these of its pairs."""
    kept = list(dict.fromkeys(r for i in pairs for r in group.pairs[i]))
    new = {old: i for i, old in enumerate(kept)}
    return PromptGroup(
        prompt_ids=group.prompt_ids,
        responses=[group.responses[r] for r in kept],
        contexts=[group.contexts[r] for r in kept],
        pairs=[(new[group.pairs[i][0]], new[group.pairs[i][1]]) for i in pairs],
        pair_ids=[group.pair_ids[i] for i in pairs],
        sources=[group.sources[i] for i in pairs],
        reference=group.reference and [group.reference[r] for r in kept],
    )
