"""TokenizedPair -> PromptGroup: which responses of a pair are computed."""

from dpo.data.batch import PromptGroup
from dpo.data.pair import TokenizedPair


def group_pairs(pairs: list[TokenizedPair], answers: str = "both", paired: bool = True) -> list[PromptGroup]:
    """One group per pair, in the order given. `answers="chosen"` leaves the rejected response out altogether."""
    return [_group(pair, answers, paired) for pair in pairs]


def _group(pair: TokenizedPair, answers: str, paired: bool) -> PromptGroup:
    responses = [pair.chosen_ids] if answers == "chosen" else [pair.chosen_ids, pair.rejected_ids]
    return PromptGroup(
        prompt_ids=pair.prompt_ids,
        responses=responses,
        pairs=[(0, 1)] if paired and len(responses) == 2 else [],
        pair_ids=[pair.id],
        sources=[pair.source],
    )
