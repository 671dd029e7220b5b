"""One step of the data plan as text: which pairs, with what lengths, on which worker and in which forward pass."""

from collections.abc import Iterator

from dpo.data.batch import PromptGroup
from dpo.data.group import split_group
from dpo.data.plan import DataPlan, StepPlan
from dpo.data.rows import MicroBatches, fill_rows

ABSENT = "-"  # in place of the length of an answer that is not learnt, or that an unpaired row lacks


def plan_table(plan: DataPlan, step: int, micro: MicroBatches) -> str:
    """The pairs of optimizer step `step`, counted from 0, as training spreads them over `micro.world_size` shares."""
    chosen = plan.step(step)
    members = zip(chosen.groups, chosen.members, strict=True)
    parts = [(number, part) for number, group in members for part in split_group(group, micro.hold)]
    shares = fill_rows([part for _, part in parts], list(range(len(parts))), micro)
    lines = [_summary(chosen, len(parts)), _sizes(micro, len(shares[0]))]
    for worker, rows in enumerate(shares):
        for number, row in enumerate(rows, start=1):
            groups = [parts[i] for i in row]
            lines += ["", _heading(micro, [group for _, group in groups], f"worker {worker}, micro-batch {number}")]
            lines += _columns([cells for group in groups for cells in _pairs(*group)])
    return "\n".join(lines) + "\n"


def _summary(chosen: StepPlan, n_parts: int) -> str:
    cut = f" in {n_parts} parts" if n_parts > len(chosen.groups) else ""
    pairs = f"{chosen.counts.pairs} pairs in {len(chosen.groups)} prompt groups{cut}"
    tokens = f"{chosen.counts.tokens} tokens ({chosen.counts.response_tokens} of answers)"
    return (
        f"step {chosen.step + 1}: batch {chosen.digest}, {pairs}, {tokens}, epoch {round(chosen.epoch, 6)} at its end"
    )


def _sizes(micro: MicroBatches, n_micro: int) -> str:
    workers = f"{micro.world_size} worker{'s' if micro.world_size > 1 else ''}"
    if micro.slices > 1:
        workers = f"{micro.world_size} groups of {micro.slices} workers that share rows"
    pairs = f" and {micro.max_pairs} pairs" if micro.max_pairs else ""
    batches = f"{n_micro} micro-batch{'es' if n_micro > 1 else ''}"
    return f"{workers}, {batches} each, of at most {micro.max_tokens} tokens{pairs}, layout {micro.layout}"


def _heading(micro: MicroBatches, groups: list[PromptGroup], place: str) -> str:
    if not groups:
        return f"{place}: empty, it only keeps step with the others"
    tokens = micro.cost(groups)
    return f"{place}: {tokens} tokens computed, {tokens / micro.max_tokens:.1%} full"


def _pairs(number: int, group: PromptGroup) -> Iterator[list[str]]:
    """(prompt group, pair id, tokens of prompt, chosen and rejected answer, source) of every pair of a group."""
    for pair, pair_id, source in zip(group.pairs, group.pair_ids, group.sources, strict=True):
        lengths = [ABSENT if response is None else str(len(group.responses[response])) for response in pair]
        yield [str(number), pair_id, str(len(group.prompt_ids)), *lengths, source]


def _columns(rows: list[list[str]]) -> list[str]:
    if not rows:
        return []
    table = [["group", "pair", "prompt", "chosen", "rejected", "source"], *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    formats = [f"{side}{width}" for side, width in zip("><>>><", widths, strict=True)]
    lines = ("  ".join(f"{cell:{form}}" for cell, form in zip(row, formats, strict=True)) for row in table)
    return [f"  {line.rstrip()}" for line in lines]
