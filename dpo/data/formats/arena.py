"""Formats with two whole conversations side by side and a vote between them: Chatbot Arena, MT-bench."""

from itertools import chain

from dpo.data.formats.format import FLAG, NUMBER, TEXT, TURNS, Format
from dpo.data.formats.judgement import Answer, Judgement
from dpo.data.formats.messages import answer_turn, parse_turns
from dpo.data.formats.prompts import split_answers, with_system
from dpo.data.formats.settings import FormatSettings
from dpo.data.formats.values import WRONG_TYPE, RowProblem, Values, from_json, parse_text, shorten
from dpo.data.formats.verdicts import Verdict, by_letter, by_scores, by_winner_columns
from dpo.data.pair import Message

RATINGS = ("conv_A_rating", "conv_B_rating")
WINNERS = ("winner_model_a", "winner_model_b")


def _judged(row: Values, verdict: Verdict, first: Answer, second: Answer) -> Judgement:
    better, worse = (second, first) if verdict.second else (first, second)
    prompt, better.turns, worse.turns = split_answers(None, better.turns, worse.turns)
    return Judgement(prompt=with_system(row, prompt), answers=[better, worse])


def _from_votes(row: Values, settings: FormatSettings) -> Judgement:
    verdict = by_letter("winner", row, settings)
    sides = (Answer(turns=_seen(row, name)) for name in ("conversation_a", "conversation_b"))
    return _judged(row, verdict, *sides)


def _seen(row: Values, name: str) -> list[Message]:
    """The conversation up to the answer that was voted on: in MT-bench's set both votes, on the first answer and on the
    second (`turn`), come with the whole. Raises RowProblem."""
    turns, number = parse_turns(row.get(name), name), row.get("turn")
    asked = [at for at, turn in enumerate(turns) if turn["role"] == "user"]
    return turns[: asked[number]] if isinstance(number, int) and 0 < number < len(asked) else turns


def _from_ratings(row: Values, settings: FormatSettings) -> Judgement:
    verdict = by_scores(RATINGS, row, settings)
    first, second = (Answer(turns=parse_turns(row.get(name), name)) for name in ("conv_A", "conv_B"))
    first.score, second.score = (float(row[name]) for name in RATINGS)
    return _judged(row, verdict, first, second)


def _from_said(row: Values, settings: FormatSettings) -> Judgement:
    verdict = by_winner_columns(WINNERS, row, settings)
    asked = _texts(row, "prompt")
    sides = (Answer(turns=_conversation(asked, _texts(row, name), name)) for name in ("response_a", "response_b"))
    return _judged(row, verdict, *sides)


def _texts(row: Values, name: str) -> list[str]:
    """What one speaker said, turn by turn: a list, or its JSON as text. Raises RowProblem."""
    said = from_json(row.get(name), name)
    if not isinstance(said, list):
        raise RowProblem(WRONG_TYPE, f"{name} is {shorten(said)}, expected a list of texts")
    return [parse_text(text, f"{name}[{i}]") for i, text in enumerate(said)]


def _conversation(asked: list[str], answered: list[str], name: str) -> list[Message]:
    if len(asked) != len(answered):
        raise RowProblem("turns do not match", f"prompt has {len(asked)} texts, {name} {len(answered)}")
    users: list[list[Message]] = [[{"role": "user", "content": text}] for text in asked]
    return list(chain.from_iterable(mine + answer_turn(text) for mine, text in zip(users, answered, strict=True)))


FORMATS = (
    Format(
        name="arena",
        description="conversation_a and conversation_b + winner (model_a, model_b, tie)",
        columns={"conversation_a": TURNS, "conversation_b": TURNS, "winner": TEXT},
        convert=_from_votes,
    ),
    Format(
        name="arena_ratings",
        description="conv_A and conv_B + conv_A_rating and conv_B_rating",
        columns={"conv_A": TURNS, "conv_B": TURNS, **dict.fromkeys(RATINGS, NUMBER)},
        convert=_from_ratings,
    ),
    Format(
        name="arena_texts",
        description="prompt, response_a and response_b as lists of turns + winner_model_a and winner_model_b (1 or 0)",
        columns={
            **dict.fromkeys(("prompt", "response_a", "response_b"), ("list", "text")),
            **dict.fromkeys(WINNERS, FLAG),
        },
        convert=_from_said,
    ),
)
