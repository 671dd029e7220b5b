"""PromptGroups -> one Batch, in the packed or the padded layout. Both score the same positions in the same order."""

from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from dpo.data.batch import Batch, Judged, PromptGroup, Segments, total


def collate(groups: list[PromptGroup], layout: str) -> Batch:
    """One micro-batch of `groups`; without any, a filler whose forward is real and whose weight is zero."""
    if not groups:
        filler = PromptGroup(prompt_ids=[0], responses=[[0]], pairs=[], pair_ids=[], sources=[], reference=[0.0])
        groups = [filler]
    return collate_packed(groups) if layout == "packed" else collate_padded(groups)


def collate_packed(groups: list[PromptGroup]) -> Batch:
    """`[prompt][response 1][response 2]...` of every group behind each other in one row, no padding."""
    ids: list[int] = []
    positions: list[int] = []
    scored: list[int] = []
    bounds: list[tuple[int, int, int, int]] = []
    for group in groups:
        shared = group.prompt_ids + group.responses[0][: group.n_common]
        start, end = len(ids), len(ids) + len(shared)
        ids += shared
        positions += range(len(shared))
        bounds.append((start, end, start, start))
        first = start + len(group.prompt_ids) - 1  # the last prompt position predicts the first token of every response
        for number, response in enumerate(group.responses):
            own = response[group.n_common : -1]
            begin = len(ids)
            predicts = [*range(first, first + group.n_common + 1), *range(begin, begin + len(own))]
            scored += [predicts[i] for i in group.scored(number)]
            ids += own
            positions += range(len(shared), len(shared) + len(own))
            if own:
                bounds.append((begin, len(ids), start, end))
    return Batch(
        ids=torch.tensor([ids]),
        positions=torch.tensor([positions]),
        segments=segment_table(bounds),
        scored=torch.tensor(scored),
        **_responses(groups),
    )


def collate_padded(groups: list[PromptGroup]) -> Batch:
    """Every prompt + response as a row of its own, padded on the right to the longest."""
    rows = [group.prompt_ids + response[:-1] for group in groups for response in group.responses]
    width = max(len(row) for row in rows)
    answers = [(group, i) for group in groups for i in range(len(group.responses))]
    firsts = [row * width + len(group.prompt_ids) - 1 for row, (group, _) in enumerate(answers)]
    scored = [first + i for first, (group, number) in zip(firsts, answers, strict=True) for i in group.scored(number)]
    lengths = torch.tensor([len(row) for row in rows])
    return Batch(
        ids=torch.tensor([row + [0] * (width - len(row)) for row in rows]),
        positions=torch.arange(width).expand(len(rows), width).contiguous(),
        mask=torch.arange(width)[None, :] < lengths[:, None],
        scored=torch.tensor(scored),
        **_responses(groups),
    )


def _responses(groups: list[PromptGroup]) -> dict[str, Any]:
    """The fields of a Batch that do not depend on the layout."""
    scored = [[ids[i] for i in group.scored(n)] for group in groups for n, ids in enumerate(group.responses)]
    first = [0, *accumulate(len(group.responses) for group in groups)]
    rows = [_placed(pair, first[g]) for g, group in enumerate(groups) for pair in group.pairs]
    datasets = [name for group in groups for name in group.datasets]
    pairs = [i for i, row in enumerate(rows) if None not in row]
    good = [i for i, (_, rejected) in enumerate(rows) if rejected is None]
    bad = [i for i, (chosen, _) in enumerate(rows) if chosen is None]
    lengths = torch.tensor([len(targets) for targets in scored])
    reference = [value for group in groups for value in group.reference or ()]
    margins = [value for group in groups for value in group.margins or ()]
    return {
        "margins": torch.tensor(margins) if len(margins) == len(pairs) else None,
        "reference": torch.tensor(reference) if len(reference) == len(scored) else None,
        "targets": torch.tensor([token for targets in scored for token in targets]),
        "response": torch.repeat_interleave(torch.arange(len(scored)), lengths),
        "tokens": lengths.float(),
        "pairs": torch.tensor([rows[i] for i in pairs], dtype=torch.long).reshape(-1, 2),
        "desirable": torch.tensor([rows[i][0] for i in good], dtype=torch.long),
        "undesirable": torch.tensor([rows[i][1] for i in bad], dtype=torch.long),
        "datasets": [datasets[i] for i in (*pairs, *good, *bad)] if rows else [],
        "rows": rows,
        "pair_ids": [i for group in groups for i in group.pair_ids],
        "counts": total(group.counts for group in groups if group.n_pairs),
    }


def _placed(row: Judged, first: int) -> Judged:
    """Among the responses of the batch, where those of its group begin with `first`."""
    chosen, rejected = (None if response is None else first + response for response in row)
    return chosen, rejected


def segment_table(bounds: list[tuple[int, int, int, int]]) -> Segments:
    """`bounds` as in Segments, behind each other in the row and without a gap."""
    starts, ends, prompt_starts, prompt_ends = torch.tensor(bounds).T
    queries = ends - starts
    keys = queries + prompt_ends - prompt_starts
    index = torch.cat([torch.cat([torch.arange(p, q), torch.arange(a, b)]) for a, b, p, q in bounds])
    return Segments(
        bounds=bounds,
        key_index=index,
        query_offsets=_offsets(queries),
        key_offsets=_offsets(keys),
        max_query=int(queries.max()),
        max_key=int(keys.max()),
    )


def _offsets(lengths: Tensor) -> Tensor:
    return torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)]).int()
