"""Prompts with answers to other prompts: what kto estimates the divergence of the policy from its reference on."""

from dpo.data.batch import PromptGroup
from dpo.errors import DataError


def mismatched(groups: list[PromptGroup]) -> list[PromptGroup]:
    """For every group its prompt with the chosen and the rejected answer of the next group of another prompt.

    The partner follows from the order of the data, not from the batch: reference values are computed once and found
    again in every epoch and by every run. An answer is cut where prompt and answer together would be longer than the
    longest of the data, which the model's context is known to hold.

    Raises:
        DataError: all groups have the same prompt.
    """
    longest = max((group.longest + 1 for group in groups), default=0)
    partners = _next_other_prompts(groups)
    return [_matched(group, groups[partner], longest) for group, partner in zip(groups, partners, strict=True)]


def _next_other_prompts(groups: list[PromptGroup]) -> list[int]:
    """[groups]; behind the last group comes the first."""
    n = len(groups)
    if n and all(group.prompt_ids == groups[0].prompt_ids for group in groups):
        raise DataError(
            f"all {n} pairs around {groups[0].sources[0]} have one prompt, but loss=kto needs answers to others, "
            "in the training and in the held-out data: add prompts, change eval.fraction, or use loss=apo_zero"
        )
    partners = [0] * n
    partner = 0
    for i in reversed(range(2 * n)):  # the second time around every group knows what follows the last
        after = (i + 1) % n
        partner = after if groups[after].prompt_ids != groups[i % n].prompt_ids else partner
        partners[i % n] = partner
    return partners


def _matched(group: PromptGroup, partner: PromptGroup, longest: int) -> PromptGroup:
    room = longest - len(group.prompt_ids)
    answers = [partner.responses[i][:room] for i in partner.pairs[0]] if partner.pairs else partner.responses
    return PromptGroup(
        prompt_ids=group.prompt_ids,
        responses=answers,
        pairs=[],
        pair_ids=group.pair_ids,
        sources=group.sources,
    )
