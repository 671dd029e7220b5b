"""Reference log-probabilities that the rows bring along, held against the model on a few pairs."""

import numpy as np
from numpy.typing import NDArray

from dpo.data.batch import PromptGroup
from dpo.data.groups import Groups
from dpo.errors import DataError

# Nats per token. In half precision two programs differ by about 0.01 per token of a short answer, less on the mean of
# a long one; another model, or a mean instead of a sum, by tenths at least.
TOLERANCE = {"fp32": 1e-2, "bf16": 5e-2, "fp16": 5e-2}


def choose_spots(sections: list[Groups], n_pairs: int) -> list[NDArray[np.int64]]:
    """About `n_pairs` pairs' worth of the groups that bring their own values, spread over the data: the numbers of the
    groups in every section."""
    own = [np.flatnonzero(groups.known()) for groups in sections]
    total = sum(map(len, own))
    count = min(n_pairs, total)
    spots = np.array([i * total // count for i in range(count)], np.int64)
    begins = np.cumsum([0, *map(len, own)])
    return [
        numbers[spots[(begin <= spots) & (spots < begin + len(numbers))] - begin]
        for numbers, begin in zip(own, begins, strict=False)
    ]


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
