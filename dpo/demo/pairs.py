"""Preference pairs made by code, so that a first run needs no download."""

import random
from itertools import cycle, islice

from dpo.data.pair import Pair
from dpo.demo.answers import FRAMES, POLITE, REFUSALS, RUDE, polite_openings, rude_openings
from dpo.demo.tasks import Question, all_tasks, questions

HELD_OUT = 160
MAX_PER_TASK = 600
SEED = 20  # of the data, not of a run: the demo's pairs never change
FAULTS = ("rude", "wrong", "rude and wrong", "refusal")
FAULT_WEIGHTS = (50, 25, 15, 10)  # percent


def demo_pairs(count: int = 3000) -> tuple[list[Pair], list[Pair]]:
    """`count` training pairs and 160 held-out ones, the same at every call; no prompt is on both sides.

    There are 3,760 training prompts; with a larger `count` they come again with other answers.
    """
    rng = random.Random(SEED)
    pool = _question_pool(rng)
    held_out, rest = pool[:HELD_OUT], pool[HELD_OUT:]
    held_out_pairs = [_pair(question, count + i, rng) for i, question in enumerate(held_out)]
    train = [_pair(question, i, rng) for i, question in enumerate(islice(cycle(rest), count))]
    return train, held_out_pairs


def demo_texts() -> list[str]:
    """Every text the demo can hold, prompts and answers: what its tokenizer is trained on."""
    texts = [question.prompt for task in all_tasks() for question in questions(task)]
    contents = sorted({answer for task in all_tasks() for answer in task.answers})
    for opening in POLITE + RUDE:
        texts += [frame.format(opening=opening, x=content) for frame in FRAMES for content in contents]
    return [*texts, *REFUSALS]


def _question_pool(rng: random.Random) -> list[Question]:
    """Questions in random order, 440 to 600 of every task (there are 3,120 of "larger"), spread evenly."""
    per_task = [_shuffled(list(questions(task)), rng)[:MAX_PER_TASK] for task in all_tasks()]
    ranked = [(i / len(group), question) for group in per_task for i, question in enumerate(group)]
    return [question for _, question in sorted(ranked, key=lambda entry: entry[0])]


def _shuffled(values: list[Question], rng: random.Random) -> list[Question]:
    return rng.sample(values, len(values))


def _pair(question: Question, index: int, rng: random.Random) -> Pair:
    opening, frame = rng.choice(polite_openings(question.kind)), rng.choice(FRAMES)
    return Pair(
        prompt=[{"role": "user", "content": question.prompt}],
        chosen=[{"role": "assistant", "content": frame.format(opening=opening, x=question.right)}],
        rejected=[{"role": "assistant", "content": _rejected(question, opening, rng)}],
        source=f"demo:{index}",
    )


def _rejected(question: Question, opening: str, rng: random.Random) -> str:
    """An answer with one of the four faults. One that is only wrong opens like the chosen answer, with `opening`."""
    fault = rng.choices(FAULTS, FAULT_WEIGHTS)[0]
    if fault == "refusal":
        return rng.choice(REFUSALS)
    content = question.right if fault == "rude" else _wrong(question, rng)
    opening = opening if fault == "wrong" else rng.choice(rude_openings(question.kind))
    return rng.choice(FRAMES).format(opening=opening, x=content)


def _wrong(question: Question, rng: random.Random) -> str:
    """A plausible error: half the time something the prompt mentions, else the answer to another question."""
    mentioned = [value for value in question.arguments if value != question.right]
    if mentioned and rng.random() < 0.5:
        return rng.choice(mentioned)
    return rng.choice([answer for answer in question.task.answers if answer != question.right])
