"""What the log says of training prompts that a benchmark holds too."""

from collections.abc import Sequence

from dpo.data.decontaminate.benchmark import Benchmark, Overlap
from dpo.data.select.contamination import MOSTLY, Contamination


def contamination_note(
    found: Contamination, worst: Sequence[tuple[str, Overlap]], benchmark: Benchmark, drop: float | None
) -> str:
    """The numbers, and the worst prompts with what they hold.

    `worst`: (source, overlap) of the rows in `found.worst`. `drop`: data.decontaminate_drop.
    """
    texts = f"the {len(benchmark)} texts of data.decontaminate"
    if not found.affected:
        return f"data: none of {found.prompts} training prompts shares 8 words in a row with {texts}"
    if drop is None:
        done = f"data.decontaminate_drop={MOSTLY} would leave those out"
    else:
        done = f"{found.left_out} are left out at data.decontaminate_drop={drop:g}"
    share = 100 * found.affected / found.prompts
    lines = [
        f"data: {found.affected} of {found.prompts} training prompts ({share:.2g} %) share 8 words in a row with "
        f"{texts}; {found.mostly} hold at least half of one; {done}. The worst:",
        *(
            f"  {source} holds {100 * overlap.share:.0f} % of {benchmark.places[overlap.item]} "
            f"({benchmark.openings[overlap.item]!r})"
            for source, overlap in worst
        ),
    ]
    return "\n".join(lines)
