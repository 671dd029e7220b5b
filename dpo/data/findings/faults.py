"""What can be wrong with one pair, and from which share of the pairs on a person should hear of it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dpo.data.findings.finders import near_identical, off_topic, other_language, same_start
from dpo.data.findings.marks import Mark
from dpo.data.findings.table import Table


@dataclass(kw_only=True, slots=True, frozen=True)
class Fault:
    """One kind of fault. Thresholds are shares of all pairs."""

    key: str
    title: str
    says: str  # of a pair that has it
    action: str
    warn: float
    bad: float
    weight: float  # in the choice of the pairs that are shown
    find: Callable[[Table], np.ndarray]  # [n] bool
    # Key of the same on the other side, where the way of looking is rough: what both sides have alike is its error, and
    # only the rest counts.
    against: str = ""


FAULTS = (
    Fault(
        key="conflict",
        title="Pairs that contradict each other",
        says="another pair has the same prompt and prefers the other answer",
        action="keep one of each two, their gradients cancel",
        warn=0.001,
        bad=0.02,
        weight=5.0,
        find=lambda table: table.twin >= 0,
    ),
    Fault(
        key="margin_negative",
        title="Scores that contradict the label",
        says="by its own margin the rejected answer is the better one",
        action="swap or remove them, or correct the scores",
        warn=0.001,
        bad=0.02,
        weight=4.0,
        find=lambda table: table["margin"] < 0,
    ),
    Fault(
        key="chosen_empty",
        title="Chosen answers that say nothing",
        says="the chosen answer has no words, or a placeholder for them",
        action="remove these rows: they teach silence",
        warn=0.0005,
        bad=0.01,
        weight=5.0,
        find=lambda table: table.has("chosen", Mark.EMPTY),
    ),
    Fault(
        key="chosen_loop",
        title="Chosen answers that go round in circles",
        says="the chosen answer repeats itself again and again",
        action="remove these rows: they teach repetition",
        warn=0.002,
        bad=0.02,
        weight=3.5,
        find=lambda table: table.has("chosen", Mark.LOOP),
    ),
    Fault(
        key="chosen_off_topic",
        title="Chosen answers off the topic",
        says="the chosen answer has no content word of the prompt, the rejected one has",
        action="look whether answers stand at the wrong prompts, or the sides are swapped",
        warn=0.02,
        bad=0.1,
        weight=3.0,
        find=lambda table: off_topic(table, "chosen"),
        against="rejected_off_topic",
    ),
    Fault(
        key="rejected_off_topic",
        title="Rejected answers off the topic",
        says="the rejected answer has no content word of the prompt, the chosen one has",
        action="use rejected answers to the same prompt: these are told apart without learning what is good",
        warn=0.05,
        bad=0.3,
        weight=1.5,
        find=lambda table: off_topic(table, "rejected"),
        against="chosen_off_topic",
    ),
    Fault(
        key="formatting_only",
        title="Answers that differ in formatting alone",
        says="the answers differ in blanks, case, punctuation or Markdown alone",
        action="remove them, unless formatting is what should be learnt",
        warn=0.005,
        bad=0.05,
        weight=3.0,
        find=lambda table: table["formatting_only"] != 0,
    ),
    Fault(
        key="same_start",
        title="Answers that differ at the end alone",
        says="the answers are the same for nine tenths of the shorter one",
        action="look whether one is the other cut short: then the pair teaches to stop, or not to",
        warn=0.02,
        bad=0.2,
        weight=2.0,
        find=same_start,
    ),
    Fault(
        key="near_identical",
        title="Answers with nearly the same words",
        says="nine of ten different words stand in both answers",
        action="right for corrections and proofs; else both are pushed down together (watch logps/chosen)",
        warn=0.05,
        bad=0.3,
        weight=1.5,
        find=near_identical,
    ),
    Fault(
        key="chosen_language",
        title="Chosen answers in another language than the prompt",
        says="the chosen answer is in another language than the prompt, the rejected one is not",
        action="remove them, unless another language was asked for",
        warn=0.02,
        bad=0.1,
        weight=2.5,
        find=lambda table: other_language(table, "chosen"),
    ),
    Fault(
        key="rejected_language",
        title="Rejected answers in another language than the prompt",
        says="the rejected answer is in another language than the prompt, the chosen one is not",
        action="the language alone decides these pairs: keep few of them",
        warn=0.05,
        bad=0.3,
        weight=1.0,
        find=lambda table: other_language(table, "rejected"),
    ),
    Fault(
        key="chosen_unfinished",
        title="Chosen answers that stop within a sentence",
        says="the chosen answer stops within a sentence",
        action="generate them with more room, or remove them: the end-of-turn token after them is learnt",
        warn=0.03,
        bad=0.2,
        weight=1.0,
        find=lambda table: table.has("chosen", Mark.UNFINISHED),
    ),
    Fault(
        key="rejected_unfinished",
        title="Rejected answers that stop within a sentence",
        says="the rejected answer stops within a sentence, the chosen one does not",
        action="generate them with more room: else ending is what is learnt",
        warn=0.15,
        bad=0.5,
        weight=0.4,
        find=lambda table: table.only("rejected", Mark.UNFINISHED),
    ),
    Fault(
        key="chosen_refuses",
        title="Chosen answers that refuse",
        says="the chosen answer refuses, the rejected one does not",
        action="wanted in safety data; elsewhere they teach to refuse",
        warn=0.05,
        bad=0.3,
        weight=1.0,
        find=lambda table: table.only("chosen", Mark.REFUSAL),
    ),
    Fault(
        key="rejected_refuses",
        title="Rejected answers that refuse",
        says="the rejected answer refuses, the chosen one does not",
        action="many of them teach to comply with everything: mix in pairs where refusing is right",
        warn=0.2,
        bad=0.5,
        weight=0.2,
        find=lambda table: table.only("rejected", Mark.REFUSAL),
    ),
    Fault(
        key="rejected_empty",
        title="Rejected answers that say nothing",
        says="the rejected answer has no words, or a placeholder for them",
        action="remove them: any answer beats none",
        warn=0.02,
        bad=0.2,
        weight=1.5,
        find=lambda table: table.has("rejected", Mark.EMPTY),
    ),
    Fault(
        key="rejected_loop",
        title="Rejected answers that go round in circles",
        says="the rejected answer repeats itself again and again, the chosen one does not",
        action="a few are useful; many are told apart without learning what is good",
        warn=0.1,
        bad=0.4,
        weight=0.5,
        find=lambda table: table.only("rejected", Mark.LOOP),
    ),
    Fault(
        key="chosen_html",
        title="Left-over HTML in chosen answers",
        says="the chosen answer holds HTML tags or entities outside code",
        action="clean the text: tags are learnt like words",
        warn=0.01,
        bad=0.1,
        weight=1.0,
        find=lambda table: table.has("chosen", Mark.HTML),
    ),
    Fault(
        key="margin_zero",
        title="Pairs whose scores are equal",
        says="by its own margin neither answer is better",
        action="remove them: a coin decided which side is chosen",
        warn=0.02,
        bad=0.2,
        weight=1.0,
        find=lambda table: table["margin"] == 0,
    ),
    Fault(
        key="duplicate",
        title="Repeated pairs",
        says="an earlier pair is the same, letter by letter",
        action="each repetition weighs like another epoch: data.duplicates=drop leaves them out",
        warn=0.01,
        bad=0.1,
        weight=0.5,
        find=lambda table: table.repeated,
    ),
)
