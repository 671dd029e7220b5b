"""Public sets whose answers carry ratings: UltraFeedback, HelpSteer, RM-Gallery."""

from dpo.data.formats.candidates import PROMPTS, SOME, answer_items, answer_objects, candidate, judged_list
from dpo.data.formats.format import ANSWER, NUMBER, TEXT, Format
from dpo.data.formats.judgement import LIST, PAIR, Answer, Judgement
from dpo.data.formats.messages import parse_answer, parse_turns
from dpo.data.formats.prompts import with_system
from dpo.data.formats.settings import FormatSettings
from dpo.data.formats.values import WRONG_TYPE, RowProblem, Values, parse_score, pick, rows_of, type_name

HELPSTEER = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")


def _from_ultrafeedback(row: Values, settings: FormatSettings) -> Judgement:
    """`overall_score` orders the completions (where it is absent, the mean of the ratings); the annotations are their
    dimensions. Each completion's own system prompt is left out, as in the sets that were made of this one."""
    answers = []
    for i, item in enumerate(answer_objects(row, "completions"), 1):
        ratings = _annotations(item.get("annotations"), f"completion {i}")
        score = parse_score(item.get("overall_score"), "overall_score")
        if score is None and ratings:
            score = sum(ratings.values()) / len(ratings)
        answer = candidate(item, score, f"completion {i}")
        answer.dimensions = ratings
        answers.append(answer)
    return judged_list(row, answers, settings)


def _annotations(value: object, name: str) -> dict[str, float]:
    """{"helpfulness": {"Rating": "4", ...}, ...}: as text, and "N/A" where there is none."""
    if not isinstance(value, dict):
        return {}
    rated = {
        key: parse_score(pick(found, "Rating|rating")[1], f"{name}: {key}")
        for key, found in value.items()
        if isinstance(found, dict)
    }
    return {key: rating for key, rating in rated.items() if rating is not None}


def _from_helpsteer(row: Values, settings: FormatSettings) -> Judgement:
    """The joined rows of one prompt (dpo/data/formats/adjacent.py), ordered by helpfulness."""
    answers = []
    for item in answer_objects(row, "responses"):
        known = {name: parse_score(item.get(name), name) for name in HELPSTEER}
        dimensions = {name: value for name, value in known.items() if value is not None}
        answer = candidate(item.get("response"), dimensions.get("helpfulness"), "response")
        answer.dimensions = dimensions
        answers.append(answer)
    return judged_list(row, answers, settings)


def _from_rm_gallery(row: Values, settings: FormatSettings) -> Judgement:
    sample = row.get("evaluation_sample")
    if not isinstance(sample, dict):
        raise RowProblem(WRONG_TYPE, f"evaluation_sample is {type_name(sample)}, expected an object")
    outputs = [_inner(output) for output in answer_items(sample, "outputs")]
    labels = [pick(output, "content_label|label")[1] for output in outputs]
    answers = [_rewarded(output, f"output {i}") for i, output in enumerate(outputs, 1)]
    prompt = with_system(row, parse_turns(sample.get("input"), "evaluation_sample.input"))
    if labels in (["chosen", "rejected"], ["rejected", "chosen"]):
        sides = answers if labels[0] == "chosen" else answers[::-1]
        return Judgement(prompt=prompt, answers=sides, kind=PAIR)
    return Judgement(prompt=prompt, answers=answers, kind=LIST)


def _inner(output: object) -> Values:
    """An output, which may lie in an object of its own under "answer"."""
    value = output.get("answer", output) if isinstance(output, dict) else output
    if not isinstance(value, dict):
        raise RowProblem(WRONG_TYPE, f"an output is {type_name(value)}, expected an object")
    return value


def _rewarded(output: Values, name: str) -> Answer:
    rewards = pick(output, "rewards|reward")[1]
    rewards = rewards if isinstance(rewards, dict) else {}
    details = rewards.get("rewards_detail")
    found = {
        str(detail.get("dimension")): parse_score(detail.get("value"), f"{name}: reward")
        for detail in (details if isinstance(details, list) else [])
        if isinstance(detail, dict)
    }
    return Answer(
        turns=[] if output.get("content") is None else parse_answer(output, name),
        score=parse_score(rewards.get("total_score"), f"{name}: total_score"),
        dimensions={key: value for key, value in found.items() if value is not None},
    )


def _are_annotated(row: Values) -> bool:
    items = rows_of(row.get("completions"))
    return isinstance(items, list) and all(isinstance(item, dict) and "annotations" in item for item in items)


FORMATS = (
    Format(
        name="ultrafeedback",
        description="instruction + completions with response, overall_score and annotations",
        columns={"instruction": TEXT, "completions": SOME},
        convert=_from_ultrafeedback,
        absent=("chosen", "rejected"),
        shape=_are_annotated,
        shape_says="annotations in every completion",
        prompt=PROMPTS,
        uses=("ranked_pairs",),
    ),
    Format(
        name="rm_gallery",
        description="evaluation_sample.input and .outputs with content_label or rewards",
        columns={"evaluation_sample": ("object",)},
        convert=_from_rm_gallery,
        uses=("ranked_pairs",),
    ),
    Format(
        name="helpsteer",
        description="one response with helpfulness, correctness, ... per row, the rows of a prompt adjacent: joined",
        columns={"prompt": ANSWER, "response": ANSWER, "helpfulness": NUMBER},
        convert=_from_helpsteer,
        absent=("chosen", "rejected"),
        prompt=PROMPTS,
        uses=("ranked_pairs",),
        joined=True,
    ),
)
