"""Batch -> one worker's slice of it, where several workers share a row (`zero.sequence_parallel`)."""

from dataclasses import replace

import torch
import torch.nn.functional as F

from dpo.data.batch import Batch, Segments
from dpo.data.collate import segment_table


def shard_sequence(batch: Batch, rank: int, size: int) -> Batch:
    """The `rank`-th of `size` equal slices of a packed row: its tokens, and the scored positions that lie in it.

    Segments, responses and pairs stay those of the whole row: attention sees all of it, and a response's
    log-probability is the sum over the slices. The row is filled up at its end with tokens that form a segment of their
    own, which nobody else attends to and nothing scores.
    """
    assert batch.segments is not None, "only packed rows are cut"
    length = batch.ids.shape[1]
    width = -(-length // size)
    start = rank * width
    padding = (0, width * size - length)
    here = (batch.scored >= start) & (batch.scored < start + width)
    again, counted = batch.again, here
    if again is not None:
        counted = torch.cat([here, here[again]])
        again = (here.cumsum(0) - 1)[again[here[again]]]
    return replace(
        batch,
        ids=F.pad(batch.ids, padding)[:, start : start + width],
        positions=F.pad(batch.positions, padding)[:, start : start + width],
        segments=_filled_up(batch.segments, length, width * size),
        scored=batch.scored[here] - start,
        targets=batch.targets[here],
        response=batch.response[counted],
        again=again,
    )


def _filled_up(segments: Segments, length: int, total: int) -> Segments:
    return segments if total == length else segment_table([*segments.bounds, (length, total, length, length)])
