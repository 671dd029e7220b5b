"""The small tasks of the demo: how each is asked, of what, and how its right answer is computed.

Every task has one short answer that a program can work out from the prompt alone; that is what lets a checker, not a
person, say whether training helped.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


CURT_OPENINGS = ("", "Now: ", "Quick: ")
KIND_OPENINGS = ("Please: ", "Hello! ")

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = _words("January February March April May June July August September October November December")
NOUNS = _words(
    "apple bread cloud dance eagle flute grape horse igloo jelly kite lemon mango night ocean piano queen river snail "
    "table uncle violin water yacht zebra arrow beach chair dream earth forest garden house island jacket kitten"
)
NUMBERS = _words("zero one two three four five six seven eight nine ten eleven twelve")
OPPOSITES = (
    "hot:cold big:small fast:slow tall:short young:old rich:poor wet:dry open:closed early:late hard:soft full:empty "
    "light:dark strong:weak clean:dirty happy:sad loud:quiet thick:thin up:down"
)
COLOURS = (
    "grass:green snow:white coal:black blood:red lemons:yellow chocolate:brown spinach:green milk:white soot:black "
    "tomatoes:red bananas:yellow carrots:orange broccoli:green salt:white strawberries:red sunflowers:yellow "
    "pumpkins:orange peas:green flour:white sapphires:blue rubies:red emeralds:green"
)
PLURALS = (
    "cat:cats dog:dogs mouse:mice child:children foot:feet tooth:teeth box:boxes leaf:leaves goose:geese man:men "
    "woman:women city:cities baby:babies knife:knives wolf:wolves bus:buses tree:trees book:books fox:foxes "
    "berry:berries ox:oxen star:stars wish:wishes loaf:loaves"
)

Arguments = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One kind of question. `wordings` hold {a} (and {b}); `items` are what is asked about."""

    name: str
    wordings: tuple[str, ...]
    items: tuple[Arguments, ...]
    solve: Callable[[Arguments], str | None]  # None: the arguments are none of this task's

    @property
    def answers(self) -> list[str]:
        """Every right answer there is, sorted."""
        return sorted({answer for item in self.items if (answer := self.solve(item)) is not None})


@dataclass(frozen=True, kw_only=True)
class Question:
    """A prompt with what the program knows of it."""

    task: Task
    prompt: str
    arguments: Arguments
    right: str
    kind: bool  # asked kindly ("Please: ...")


def parse(prompt: str) -> Question | None:
    """The question that `prompt` asks; None if it is none of the demo's."""
    for opening in KIND_OPENINGS + CURT_OPENINGS[::-1]:  # "" matches everything, so it comes last
        if prompt.startswith(opening):
            return _parse_body(prompt, opening)
    return None


def _parse_body(prompt: str, opening: str) -> Question | None:
    for task, pattern in _patterns():
        match = pattern.fullmatch(prompt, len(opening))
        right = task.solve(match.groups()) if match else None
        if match and right is not None:
            kind = opening in KIND_OPENINGS
            return Question(task=task, prompt=prompt, arguments=match.groups(), right=right, kind=kind)
    return None


def questions(task: Task) -> Iterator[Question]:
    """Every question of a task: all openings, wordings and items."""
    for opening in CURT_OPENINGS + KIND_OPENINGS:
        for wording in task.wordings:
            for item in task.items:
                right = task.solve(item)
                assert right is not None, f"{task.name} cannot answer its own item {item}"
                prompt = opening + wording.format(**dict(zip("ab", item, strict=False)))
                kind = opening in KIND_OPENINGS
                yield Question(task=task, prompt=prompt, arguments=item, right=right, kind=kind)


@cache
def all_tasks() -> tuple[Task, ...]:
    """The tasks, in a fixed order."""
    return (*_word_tasks(), *_number_tasks(), *_table_tasks())


def _word_tasks() -> tuple[Task, ...]:
    items = tuple((noun,) for noun in NOUNS)
    echo = ("Repeat the word {a}.", "Say {a} back to me.", "Echo this word: {a}", "Can you say {a}?")
    first = (
        "What is the first letter of {a}?",
        "Which letter does {a} start with?",
        "Name the first letter of {a}.",
        "First letter of {a}?",
    )
    return (
        Task(name="echo", wordings=echo, items=items, solve=lambda args: args[0]),
        Task(name="first", wordings=first, items=items, solve=lambda args: args[0][0]),
    )


def _number_tasks() -> tuple[Task, ...]:
    larger = (
        "Which is larger, {a} or {b}?",
        "Name the larger of {a} and {b}.",
        "Pick the bigger number: {a} or {b}",
        "Which is more, {a} or {b}?",
    )
    items = tuple((a, b) for a in NUMBERS for b in NUMBERS if a != b)
    return (Task(name="larger", wordings=larger, items=items, solve=_larger),)


def _larger(args: Arguments) -> str | None:
    return max(args, key=NUMBERS.index) if set(args) <= set(NUMBERS) else None


def _table_tasks() -> tuple[Task, ...]:
    after = ("What comes after {a}?", "Name what follows {a}.", "What is next after {a}?", "{a}, and then?")
    opposite = ("What is the opposite of {a}?", "Name the opposite of {a}.", "Opposite of {a}?", "What is not {a}?")
    colour = ("What colour is {a}?", "Name the colour of {a}.", "Which colour has {a}?", "Colour of {a}?")
    plural = ("What is the plural of {a}?", "One {a}, two what?", "Plural of {a}?", "Name more than one {a}.")
    forward = _table(OPPOSITES)
    successors = dict(pairwise(NUMBERS))
    successors |= {word: ring[(i + 1) % len(ring)] for ring in (DAYS, MONTHS) for i, word in enumerate(ring)}
    return (
        _table_task("after", after, successors),
        _table_task("opposite", opposite, forward | {right: left for left, right in forward.items()}),
        _table_task("colour", colour, _table(COLOURS)),
        _table_task("plural", plural, _table(PLURALS)),
    )


def _table_task(name: str, wordings: tuple[str, ...], table: dict[str, str]) -> Task:
    items = tuple((word,) for word in table)
    return Task(name=name, wordings=wordings, items=items, solve=lambda args: table.get(args[0]))


def _table(text: str) -> dict[str, str]:
    return {left: right for left, _, right in (entry.partition(":") for entry in text.split())}


@cache
def _patterns() -> tuple[tuple[Task, re.Pattern[str]], ...]:
    """One pattern per wording; an argument is one word."""
    return tuple((task, _pattern(wording)) for task in all_tasks() for wording in task.wordings)


def _pattern(wording: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{[ab]\\}", "([A-Za-z]+)", re.escape(wording)))
