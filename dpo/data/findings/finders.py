"""The faults that take more than one column to find: [n] bool over a table of pairs."""

import numpy as np

from dpo.data.findings.table import Table, other

NEAR = 0.9  # share of their words, or of the shorter one's beginning, from which on two answers are nearly the same
TOPIC_STEMS, TOPIC_WORDS = 3, 15  # content words of a prompt and words of an answer that let a topic be missed


def off_topic(table: Table, side: str) -> np.ndarray:
    """No content word of the prompt in this answer, at least one in the other; all three in one language."""
    language = table["prompt_language"]
    return (
        table.paired
        & (table["prompt_stems"] >= TOPIC_STEMS)
        & (table[f"{side}_words"] >= TOPIC_WORDS)
        & (table[f"{side}_stems"] == 0)
        & (table[f"{other(side)}_stems"] > 0)
        & (table["chosen_language"] == language)
        & (table["rejected_language"] == language)
    )


def other_language(table: Table, side: str) -> np.ndarray:
    """This answer in another language than the prompt, the other one in the prompt's."""
    language, own = table["prompt_language"], table[f"{side}_language"]
    return (
        table.paired & (language > 0) & (own > 0) & (own != language) & (table[f"{other(side)}_language"] == language)
    )


def near_identical(table: Table) -> np.ndarray:
    """Nearly the same words in both answers, in whatever order."""
    return table.paired & (table["common_words"] >= NEAR) & (table["formatting_only"] == 0)


def same_start(table: Table) -> np.ndarray:
    """Answers that differ at their end alone."""
    long_enough = np.minimum(table["chosen_words"], table["rejected_words"]) >= TOPIC_WORDS
    return table.paired & long_enough & (table["common_start"] >= NEAR) & (table["formatting_only"] == 0)
