"""What one forward pass reads, and what comes out of it per response.

Shape letters: B rows, T tokens of a row, S scored positions, R responses, P pairs, G segments, K gathered keys.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, field, fields, replace
from itertools import accumulate, takewhile
from typing import Any

import torch
from torch import Tensor

from dpo.data.pair import Spans

Judged = tuple[int | None, int | None]
"""(chosen, rejected) of a row of the data, as indices of responses; None for the answer that an unpaired row lacks."""


@dataclass(kw_only=True, slots=True)
class PromptGroup:
    """One prompt and every response to it, each once. With two responses this is a preference pair.

    The prompt is computed once for all responses, and so are the first tokens that all responses have in common.
    """

    prompt_ids: list[int]  # [p]
    responses: list[list[int]]  # each [r_i]
    pairs: list[Judged]  # indices into `responses`; empty where nothing is learnt
    pair_ids: list[str]  # content hash of every pair the group stands for; its length is what a batch counts
    sources: list[str]  # where those pairs stand in the data, for messages
    datasets: list[str] = field(default_factory=list)  # the names of the data sets that they come from
    contexts: list[Spans] = field(default_factory=list)  # of every response: its tokens that are not scored
    reference: list[float] | None = None  # log-probability of every response under the reference, nats; None: not known
    margins: list[float] | None = None  # of every pair: how much better the chosen response is, in the data's own unit
    n_common: int = field(init=False)  # first tokens that all responses share

    def __post_init__(self) -> None:
        self.contexts = self.contexts or [()] * len(self.responses)
        self.datasets = self.datasets or [""] * len(self.pair_ids)
        # What the first and the last in lexicographic order share, all share.
        first, last = min(self.responses, default=[]), max(self.responses, default=[])
        shared = takewhile(lambda tokens: tokens[0] == tokens[1], zip(first, last, strict=False))
        self.n_common = sum(1 for _ in shared) if len(self.responses) > 1 else 0

    @property
    def n_pairs(self) -> int:
        return len(self.pair_ids)

    @property
    def response_tokens(self) -> int:
        return sum(len(r) for r in self.responses)

    @property
    def counts(self) -> "Counts":
        contexts = (sum(end - start for start, end in spans) for spans in self.contexts)
        scored = [len(ids) - context for ids, context in zip(self.responses, contexts, strict=True)]
        return Counts(
            pairs=self.n_pairs,
            answers=sum(response is not None for pair in self.pairs for response in pair),
            response_tokens=sum(scored),
            chosen_tokens=sum(scored[chosen] for chosen, _ in self.pairs if chosen is not None),
            tokens=len(self.prompt_ids) + self.response_tokens,
        )

    def scored(self, response: int) -> Sequence[int]:
        """Which tokens of a response are scored, as indices into it."""
        count, spans = len(self.responses[response]), self.contexts[response]
        if not spans:
            return range(count)
        bounds = [0, *(bound for span in spans for bound in span), count]
        return [i for start, end in zip(bounds[::2], bounds[1::2], strict=True) for i in range(start, end)]

    @property
    def row_tokens(self) -> int:
        """Tokens in a packed row. A response's last token is only ever a target, so it is not computed."""
        own = sum(max(0, len(r) - 1 - self.n_common) for r in self.responses)
        return len(self.prompt_ids) + self.n_common + own

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt + response, as the padded layout computes them."""
        return len(self.prompt_ids) + max(len(r) for r in self.responses) - 1


@dataclass(kw_only=True, slots=True)
class Segments:
    """Who attends to whom in a packed row: a response sees its prompt and itself, a prompt sees itself, causally. The
    first tokens that all responses have in common count as prompt here.

    `bounds` serves the segment-by-segment path; the tensors serve one variable-length attention call per layer, whose
    keys of a response are its prompt's keys followed by its own, gathered by `key_index`.
    """

    # [G] (start, end, prompt start, prompt end) in the order of the row, without gaps; of a prompt: (a, b, a, a)
    bounds: list[tuple[int, int, int, int]]
    key_index: Tensor  # [K] int64, position in the row of every gathered key
    query_offsets: Tensor  # [G + 1] int32, cumulated query lengths
    key_offsets: Tensor  # [G + 1] int32, cumulated key lengths
    max_query: int
    max_key: int
    masks: dict[tuple[int, int | None], Tensor] = field(default_factory=dict)  # cache of one batch, shared by layers

    @property
    def lengths(self) -> list[int]:
        return [end - start for start, end, _, _ in self.bounds]


@dataclass(kw_only=True, slots=True)
class Counts:
    """What losses and metrics are divided by: of a micro-batch, or of a step over all workers."""

    pairs: int = 0  # rows of the data: pairs, and single answers with a label
    answers: int = 0  # that are judged: two of every pair
    response_tokens: int = 0  # scored
    chosen_tokens: int = 0  # those of chosen responses, once per pair
    tokens: int = 0  # prompts once, responses each, no padding


def total(counts: Iterable[Counts]) -> Counts:
    rows = [astuple(one) for one in counts]
    return Counts(**{f.name: sum(row[i] for row in rows) for i, f in enumerate(fields(Counts))})


@dataclass(kw_only=True, slots=True)
class Batch:
    """One micro-batch of one worker, in either layout.

    packed: B = 1, `segments` is set, several prompt groups stand in the row without padding.
    padded: B = R, `mask` is set, every prompt + response is a row of its own, padded on the right.

    Where workers share a row, T and S are those of this worker's slice (dpo/data/sequence.py), all else is the row's.
    """

    ids: Tensor  # [B, T] int64
    positions: Tensor  # [B, T] int64, of every response continuing from its prompt
    mask: Tensor | None = None  # [B, T] bool, True on real tokens
    segments: Segments | None = None
    scored: Tensor  # [S] int64, index into the flattened [B * T] of the position that predicts the target
    targets: Tensor  # [S] int64, token ids
    response: Tensor  # [S] int64, index of the response in 0..R-1
    tokens: Tensor  # [R] float32, scored tokens of every response
    pairs: Tensor  # [P, 2] int64, (chosen, rejected) as indices of responses
    desirable: Tensor  # [D] int64, responses of unpaired rows with a good answer
    undesirable: Tensor  # [U] int64, and with a bad one
    datasets: list[str]  # [P + D + U] names of the data sets that pairs, desirable and undesirable rows come from
    margins: Tensor | None = None  # [P] float32, where the groups carry them
    reference: Tensor | None = None  # [R] float32, log-probabilities under the reference where the groups carry them
    rows: list[Judged]  # of every pair and unpaired row in the order of the data, with
    pair_ids: list[str]
    counts: Counts  # of the whole row, in all slices; zero for a filler that only keeps the workers in step

    @property
    def n_pairs(self) -> int:
        return self.counts.pairs

    def to(self, device: torch.device) -> "Batch":
        return _map_tensors(self, lambda tensor: tensor.to(device, non_blocking=True))

    def pin(self) -> "Batch":
        """In page-locked memory, from where a copy to the GPU does not wait."""
        return _map_tensors(self, Tensor.pin_memory)


def _map_tensors(values: Any, move: Callable[[Tensor], Tensor]) -> Any:
    """`values` with every tensor in it moved, also those of dataclasses inside."""
    found = {f.name: getattr(values, f.name) for f in fields(values)}
    moved = {name: move(value) for name, value in found.items() if isinstance(value, Tensor)}
    nested = {name: _map_tensors(value, move) for name, value in found.items() if isinstance(value, Segments)}
    return replace(values, **moved, **nested)


def _nothing() -> Tensor:
    return torch.empty(0, dtype=torch.long)


@dataclass(kw_only=True, slots=True)
class PairLogps:
    """Summed log-probabilities per response (float32, natural log), and how they are judged."""

    policy: Tensor  # [R]
    reference: Tensor | None  # [R]; None for losses without a reference
    tokens: Tensor  # [R] float32, scored tokens
    pairs: Tensor  # [P, 2] int64
    desirable: Tensor = field(default_factory=_nothing)  # [D] int64, as in `Batch`
    undesirable: Tensor = field(default_factory=_nothing)  # [U]
    datasets: list[str] = field(default_factory=list)  # [P + D + U]
    margins: Tensor | None = None  # [P], the data's own; None where not every pair has one
    baseline: Tensor | float = 0.0  # [] what kto and bco measure log-ratios or rewards from
    real: bool = True  # False for a filler, whose responses count nowhere

    def sides(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The entries of `values` [R] for the good and for the bad answers, [P + D] and [P + U]: the chosen and the
        rejected of every pair, and behind them those of unpaired rows."""
        good = torch.cat([self.pairs[:, 0], self.desirable])
        bad = torch.cat([self.pairs[:, 1], self.undesirable])
        return values[good], values[bad]

    @property
    def n_rows(self) -> int:
        """P + D + U."""
        return len(self.pairs) + len(self.desirable) + len(self.undesirable)

    def to(self, device: torch.device | str) -> "PairLogps":
        return _map_tensors(self, lambda tensor: tensor.to(device))

    def widened(self) -> "PairLogps":
        """In float64: losses subtract numbers of hundreds that are nearly equal."""
        return _map_tensors(self, lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)


def join(parts: list[PairLogps]) -> PairLogps:
    """All of them as one, in their order, without fillers."""
    real = [part for part in parts if part.real]
    starts = [0, *accumulate(len(part.policy) for part in real)]

    def placed(responses: list[Tensor]) -> Tensor:
        return torch.cat([own + start for own, start in zip(responses, starts, strict=False)])

    references = [part.reference for part in real if part.reference is not None]
    margins = [part.margins for part in real if part.margins is not None]
    return PairLogps(
        policy=torch.cat([part.policy for part in real]),
        reference=torch.cat(references) if len(references) == len(real) else None,
        tokens=torch.cat([part.tokens for part in real]),
        pairs=placed([part.pairs for part in real]),
        desirable=placed([part.desirable for part in real]),
        undesirable=placed([part.undesirable for part in real]),
        margins=torch.cat(margins) if len(margins) == len(real) else None,
        baseline=real[0].baseline,
    )
