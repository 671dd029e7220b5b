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

BALANCE = 0.95  # of a step's rows, the mean against the fullest (benchmarks/NOTES.md: 0.95 to 0.99), at best

SPREAD = 0.1  # of a step's tokens: twice the deviation of 128 pairs whose lengths deviate by half their mean

BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}


@dataclass(kw_only=True, slots=True)
class Lengths:
    """The pairs of a run, by number and mean length."""

    pairs: int  # trained on, in an epoch
    held_out: int
    prompt: float  # tokens
    answer: float  # tokens of one answer, mean of chosen and rejected
    longest: float  # tokens of the longest pair, its prompt once
    source: str  # where the numbers come from, for the reader
    answers: float = 2.0  # of a pair that are computed: one where only good answers are learnt

    @property
    def scored(self) -> float:
        """Tokens of a pair's answers."""
        return self.answers * self.answer

    @property
    def row(self) -> float:
        """Tokens of a pair in a packed row: the prompt once."""
        return self.prompt + self.scored

    @property
    def padded(self) -> float:
        """Tokens of a pair in rows of one answer each: the prompt before every one; padding is not counted."""
        return self.answers * (self.prompt + self.answer)

    @property
    def gathered(self) -> float:
        """Keys that the segments of a pair look at, copied together: the prompt's once, and again for each answer."""
        return self.row + self.answers * self.prompt

    @property
    def scores(self) -> float:
        """Query-key products of a pair in one head: causal, each answer over its prompt and itself."""
        return self.prompt**2 / 2 + self.answers * (self.answer * self.prompt + self.answer**2 / 2)

    @property
    def padded_scores(self) -> float:
        return self.answers * (self.prompt + self.answer) ** 2 / 2


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
    row_pairs: int | None  # most pairs, likewise
    kernels: bool  # fused norms and SwiGLU
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
    looks_first: bool  # a loss that must see the whole step before its first backward
    mismatched: bool  # a loss that also computes every prompt with the answers to another one
    steps: int
    evaluations: int

    @property
    def compute_bytes(self) -> int:
        """Of a weight that computes, of an activation."""
        return BYTES[self.precision]

    @property
    def reference_tokens(self) -> int:
        """Of a row of the cached reference's pass, per worker."""
        most = self.batch_tokens or self.row_tokens * pass_rows(self.checkpointing != "none" or self.activation_offload)
        return min(most, math.ceil((self.lengths.pairs + self.lengths.held_out) * self.pair_tokens / self.workers))

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
        by_pairs = math.ceil(self.global_batch / (self.row_pairs * self.rows_at_a_time)) if self.row_pairs else 1
        return max(1, by_pairs, min(by_tokens, math.ceil(self.global_batch / self.rows_at_a_time)))

    @property
    def forwards(self) -> float:
        """Passes over a step's pairs of which nothing is kept for backward, those of a reference model left out."""
        return float(self.mismatched) + float(self.looks_first and self.micro_batches > 1)

    @property
    def reference_model(self) -> bool:
        """Whether a reference is computed in every step."""
        return self.reference in ("sharded", "moving", "adapter_off")

    @property
    def saved_bytes(self) -> int:
        """Of a checkpoint, per trained weight: itself, two moments and, where it moves, the reference's; float32."""
        return 16 if self.reference == "moving" else 12

    @property
    def pair_tokens(self) -> float:
        """Tokens that a pair costs."""
        return self.lengths.row if self.layout == "packed" else self.lengths.padded

    @cached_property
    def mean_row(self) -> float:
        """Tokens that a worker holds of a row, in the mean of a step."""
        mean = self.global_batch * self.pair_tokens / (self.micro_batches * self.rows_at_a_time * self.sequence)
        return max(self.pair_tokens / self.sequence, min(self.row_tokens, mean))

    @cached_property
    def fullest_row(self) -> float:
        """Tokens that a worker holds of the fullest row of the run, about. Steps differ by SPREAD: one that just fits
        into fewer micro-batches fills them to the limit. The longest pair is in a row of its own, if need be."""
        longest = self.lengths.longest * self.pair_tokens / self.lengths.row / self.sequence
        filled = self.global_batch * self.pair_tokens / (self.row_tokens * self.sequence * self.rows_at_a_time)
        most = filled * (1 + SPREAD)
        full = math.floor(most) >= max(1, math.ceil(filled * (1 - SPREAD)))
        fullest = self.row_tokens * (1.0 if full else most / math.ceil(most))
        return max(longest, self.mean_row, min(self.row_tokens, fullest))

    @property
    def scored_share(self) -> float:
        """Scored positions per token of a row."""
        return self.lengths.scored / self.pair_tokens


def pass_rows(saving: bool) -> int:
    """`saving`: training keeps less than everything for backward."""
    return PASS_ROWS_CHECKPOINTED if saving else PASS_ROWS
