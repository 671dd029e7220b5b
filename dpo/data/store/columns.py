"""The columns of prepared pairs on disk, and a pair's way into them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dpo.data.decontaminate.benchmark import Overlap
from dpo.data.findings.features import DTYPES, Features
from dpo.data.keys import BYTES, prompt_key, response_keys
from dpo.data.pair import TokenizedPair
from dpo.data.text.limits import whole_lengths

PARTS = ("prompt", "chosen", "rejected")  # of a pair; in `cut` the first is bit 0
LISTS = ("prompt_ids", "chosen_ids", "rejected_ids", "chosen_context", "rejected_context")
"""int32 lists; spans are flattened: start, end, start, end, ..."""


@dataclass(kw_only=True, slots=True)
class Record:
    """A pair that is kept, with what a TokenizedPair does not hold."""

    pair: TokenizedPair
    row: int = 0  # number of its row within the source, from 0; one row may give several pairs
    prompt: int = 0  # `Pair.prompt_hash` as a number
    overlap: Overlap | None = None  # of its prompt with a benchmark
    features: Features = field(default_factory=Features)  # of its text

    @property
    def response_keys(self) -> list[bytes]:
        """Of chosen and rejected."""
        pair = self.pair
        responses = ((pair.chosen_ids, pair.chosen_context), (pair.rejected_ids, pair.rejected_context))
        return list(response_keys(pair.prompt_ids, responses))


def _number(value: float | None) -> float:
    return np.nan if value is None else value


# Name -> (type of the values, the value of a pair). NaN stands for none: no row may bring one.
FIXED: dict[str, tuple[str, Callable[[Record], Any]]] = {
    "id": ("uint64", lambda r: int(r.pair.id, 16)),
    "prompt": ("uint64", lambda r: r.prompt),
    "prompt_key": ("uint64", lambda r: prompt_key(r.pair.prompt_ids)),
    "row": ("uint64", lambda r: r.row),
    "margin": ("float64", lambda r: _number(r.pair.margin)),
    "ref_chosen": ("float64", lambda r: _number(r.pair.reference and r.pair.reference[0])),
    "ref_rejected": ("float64", lambda r: _number(r.pair.reference and r.pair.reference[1])),
    "cut": ("uint8", lambda r: sum(1 << bit for bit, part in enumerate(PARTS) if part in r.pair.cut)),
    "whole_prompt": ("int32", lambda r: whole_lengths(r.pair)[0]),
    "whole_chosen": ("int32", lambda r: whole_lengths(r.pair)[1]),
    "whole_rejected": ("int32", lambda r: whole_lengths(r.pair)[2]),
    "overlap_share": ("float32", lambda r: r.overlap.share if r.overlap else 0.0),
    "overlap_item": ("int32", lambda r: r.overlap.item if r.overlap else -1),
}
FIXED |= {name: (dtype, attrgetter(f"features.{name}")) for name, dtype in DTYPES.items()}
KEYS = "response_keys"  # [n, 2] of chosen and rejected, see dpo/data/keys.py
KEY_TYPE = f"S{BYTES}"


def fixed(records: list[Record], name: str) -> NDArray[Any]:
    """[n] one column of `FIXED`."""
    dtype, value = FIXED[name]
    return np.array([value(record) for record in records], dtype)


def batch_of(records: list[Record]) -> pa.RecordBatch:
    """The pairs as Arrow. Arrays without nulls, each beginning at its buffer's start, as reading them expects."""
    arrays = {name: pa.array(fixed(records, name)) for name in FIXED}
    keys = b"".join(key for record in records for key in record.response_keys)
    arrays[KEYS] = pa.FixedSizeBinaryArray.from_buffers(pa.binary(2 * BYTES), len(records), [None, pa.py_buffer(keys)])
    arrays["source"] = pa.array([record.pair.source for record in records], pa.utf8())
    for name in LISTS:
        arrays[name] = pa.array([_flat(getattr(record.pair, name)) for record in records], pa.list_(pa.int32()))
    return pa.RecordBatch.from_pydict(arrays)


def _flat(values: Any) -> list[int]:
    """A list of tokens, or of the bounds of spans."""
    return values if isinstance(values, list) else [bound for span in values for bound in span]
