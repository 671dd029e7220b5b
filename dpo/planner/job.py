"""What is planned: everything of a run that its memory and time depend on."""

import math
from dataclasses import dataclass
from functools import cached_property

from dpo.planner.architecture import Architecture
from dpo.planner.devices import Device

# Tokens of a row of the reference pass, in rows of training. Nothing is kept for backward: by count of its tensors a
# pass holds the activations of one layer (some 32 bytes per token and hidden unit in bf16), training those of all. With
# checkpointing training keeps the layers' inputs and one layer, some 90 bytes at 28 layers: 4 rows would need more.
PASS_ROWS = 4
PASS_ROWS_CHECKPOINTED = 2

BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}


@dataclass(kw_only=True, slots=True)
class Lengths:
    """The pairs of a run, by number and mean length."""

    pairs: int  # trained on, in an epoch
    held_out: int
    prompt: float  # tokens
    answer: float  # tokens of one answer, mean of chosen and rejected
    source: str  # where the numbers come from, for the reader

    @property
    def row(self) -> float:
        """Tokens of a pair in a packed row: the prompt once."""
        return self.prompt + 2 * self.answer

    @property
    def gathered(self) -> float:
        """Keys that the segments of a pair look at, copied together: the prompt's once, and again for each answer."""
        return self.row + 2 * self.prompt

    @property
    def scores(self) -> float:
        """Query-key products of a pair in one head: causal, each answer over its prompt and itself."""
        return self.prompt**2 / 2 + 2 * (self.answer * self.prompt + self.answer**2 / 2)


@dataclass(kw_only=True)
class Job:
    """One run on stated machines. Counts of bytes and operations follow from it alone."""

    model: Architecture
    device: Device
    on_cpu: bool  # workers are processes on a CPU: one memory for everything
    workers: int
    per_node: int
    network_gbps: float  # GB/s between nodes, per worker and direction
    efficiency: float | None  # of the device's peak in matrix products; None: assumed
    lengths: Lengths
    # How the model computes
    precision: str
    layout: str
    checkpointing: str  # none | selective | full
    activation_offload: bool
    row_tokens: int  # most tokens that one worker computes in one forward pass
    sequence: int  # workers that share a row
    # What learns
    trained: int  # weights
    adapted: bool
    eight_bit: bool
    # Where state lies
    stage: int
    offload_optimizer: str | None  # cpu | nvme
    offload_weights: str | None
    sizes: dict[str, int]  # ZeRO's, in elements
    # What else is computed and kept
    reference: str  # cached | sharded | moving | adapter_off | none
    batch_tokens: int | None  # of a row of the cached reference's pass, per worker; None: follows from row_tokens
    self_check: bool
    saves_copy: bool  # checkpoints are written from a copy in the host's memory
    keeps: int  # checkpoints that stay on disk, the best included
    # How long it takes
    global_batch: int  # pairs
    steps: int
    evaluations: int

    @property
    def compute_bytes(self) -> int:
        """Of a weight that computes, of an activation."""
        return BYTES[self.precision]

    @property
    def reference_tokens(self) -> int:
        """Of a row of the cached reference's pass, per worker."""
        return self.batch_tokens or self.row_tokens * pass_rows(self.checkpointing != "none" or self.activation_offload)

    @property
    def rows_at_a_time(self) -> int:
        """Rows that all workers together compute at a time."""
        return self.workers // self.sequence

    @property
    def nodes(self) -> int:
        return math.ceil(self.workers / self.per_node)

    @cached_property
    def micro_batches(self) -> int:
        """Forward passes of a worker in one step: rows are filled evenly, and none is without a pair."""
        together = self.row_tokens * self.sequence * self.rows_at_a_time
        by_tokens = math.ceil(self.global_batch * self.pair_tokens / together - 1e-9)
        return max(1, min(by_tokens, math.ceil(self.global_batch / self.rows_at_a_time)))

    @property
    def pair_tokens(self) -> float:
        """Tokens that a pair costs; padded rows hold the prompt twice, and padding that is not counted here."""
        return self.lengths.row if self.layout == "packed" else self.lengths.row + self.lengths.prompt

    @cached_property
    def fullest_row(self) -> float:
        """Tokens that a worker holds of the fullest row of a step, about."""
        mean = self.global_batch * self.pair_tokens / (self.micro_batches * self.rows_at_a_time * self.sequence)
        one_pair = self.pair_tokens / self.sequence
        return max(one_pair, min(self.row_tokens, mean))

    @property
    def scored_share(self) -> float:
        """Scored positions per token of a row."""
        return 2 * self.lengths.answer / self.pair_tokens


def pass_rows(saving: bool) -> int:
    """`saving`: training keeps less than everything for backward."""
    return PASS_ROWS_CHECKPOINTED if saving else PASS_ROWS
