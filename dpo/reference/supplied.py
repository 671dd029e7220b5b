"""Reference log-probabilities that the rows bring along, held against the model on a few pairs."""

from dataclasses import replace

from dpo.data.batch import PromptGroup
from dpo.errors import DataError

# Nats per token. In half precision two programs differ by about 0.01 per token of a short answer, less on the mean of
# a long one; another model, or a mean instead of a sum, by tenths at least.
TOLERANCE = {"fp32": 1e-2, "bf16": 5e-2, "fp16": 5e-2}


def choose_spots(groups: list[PromptGroup], n_pairs: int) -> list[PromptGroup]:
    """About `n_pairs` pairs' worth of the groups that bring their own values, spread over the data."""
    own = [group for group in groups if group.reference is not None]
    count = min(n_pairs, len(own))
    return [own[i * len(own) // count] for i in range(count)]


def without_values(groups: list[PromptGroup]) -> list[PromptGroup]:
    return [replace(group, reference=None) for group in groups]


def compare(supplied: list[PromptGroup], computed: list[PromptGroup], precision: str) -> None:
    """Raises DataError naming every response whose own value is not the model's."""
    wrong = []
    for own, model in zip(supplied, computed, strict=True):
        assert own.reference is not None and model.reference is not None
        for response, given, found in zip(own.responses, own.reference, model.reference, strict=True):
            if abs(given - found) > TOLERANCE[precision] * len(response):
                wrong.append(f"  {own.sources[0]}: the row says {given:.4f}, the model {found:.4f}")
    if wrong:
        raise DataError(
            "reference log-probabilities in the data (ref_chosen_logps, ref_rejected_logps) are not those of the "
            f"reference model, by more than {TOLERANCE[precision]:g} per token:\n" + "\n".join(wrong[:10]) + "\n"
            "They are sums over the answer's tokens with its end-of-turn token, natural logarithm. Name the model they "
            "come from with reference.path, or compute them here with data.reference_logps=ignore; "
            "reference.spot_check=0 takes them unchecked"
        )
