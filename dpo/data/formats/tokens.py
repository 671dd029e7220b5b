"""Rows that hold token ids instead of text: whoever tokenized them knew the model's template."""

from dpo.data.formats.format import Format
from dpo.data.formats.judgement import Judgement
from dpo.data.formats.messages import no_answer
from dpo.data.formats.scores import judged_pair
from dpo.data.formats.settings import FormatSettings
from dpo.data.formats.values import WRONG_TYPE, RowProblem, Values, pick, shorten, type_name
from dpo.data.pair import Message

SIDES = ("prompt", "chosen", "rejected")
COLUMNS = {side: f"{side}_input_ids|{side}_ids|{side}_token_ids" for side in SIDES}


def _from_tokens(row: Values, settings: FormatSettings) -> Judgement:
    """Answers that both begin with the whole prompt lose it: some trainers store the joined sequence."""
    prompt, chosen, rejected = (_ids(row, side) for side in SIDES)
    if chosen[: len(prompt)] == rejected[: len(prompt)] == prompt:
        chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
    return judged_pair(row, _turns(prompt), _turns(chosen), _turns(rejected))


def _ids(row: Values, side: str) -> list[int]:
    name, value = pick(row, COLUMNS[side])
    if value is None or value == []:
        raise RowProblem("empty prompt" if side == "prompt" else no_answer(side), f"{name} holds no token")
    if not isinstance(value, list):
        raise RowProblem(WRONG_TYPE, f"{name} is {type_name(value)}, expected a list of token ids")
    wrong = next((i for i in value if type(i) is not int or not 0 <= i < 2**31), None)
    if wrong is not None:
        raise RowProblem(WRONG_TYPE, f"{name} holds {shorten(wrong)}, expected token ids: whole numbers from 0 on")
    return value


def _turns(ids: list[int]) -> list[Message]:
    return [{"role": "tokens", "content": "", "ids": ids}] if ids else []


FORMATS = (
    Format(
        name="tokens",
        description="token ids of prompt, chosen and rejected",
        columns=dict.fromkeys(COLUMNS.values(), ("list",)),
        convert=_from_tokens,
    ),
)
