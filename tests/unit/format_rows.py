"""One row or more of every format, made up for the tests, with the pairs they must become."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dpo.data.formats.convert import Converter, converter_for
from dpo.data.formats.settings import FormatSettings
from dpo.data.pair import Pair, Reject
from dpo.data.read.files import Origin, Row

Message = dict[str, Any]


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def answer(text: str) -> Message:
    return {"role": "assistant", "content": text}


def system(text: str) -> Message:
    return {"role": "system", "content": text}


def turn(role: str, text: str) -> Message:
    return {"from": role, "value": text}


def raw(text: str) -> Message:
    return {"role": "raw", "content": text}


def rendered(text: str) -> Message:
    return {**raw(text), "rendered": True}


def converter(row: dict[str, Any], **changes: Any) -> Converter:
    return converter_for([row], FormatSettings(**changes), "a.jsonl")


def convert(row: dict[str, Any], **changes: Any) -> list[Pair] | Reject:
    return converter(row, **changes).pairs(Row(values=row, source="a.jsonl:7"))


def text_of(turns: list[dict[str, Any]]) -> str:
    return turns[-1]["content"] if turns else ""


def told(pairs: list[Pair]) -> list[tuple[str, str, float | None]]:
    return [(text_of(pair.chosen), text_of(pair.rejected), pair.margin) for pair in pairs]


def write(path: Path, values: list[Any]) -> Origin:
    path.write_text("".join((value if isinstance(value, str) else json.dumps(value)) + "\n" for value in values))
    return Origin(path=str(path))


@dataclass(kw_only=True)
class Sample:
    """A row, the format that it must be recognised as, and its pairs as (chosen text, rejected text, margin)."""

    format: str
    row: dict[str, Any]
    prompt: list[Message] = field(default_factory=lambda: [user("q")])
    pairs: list[tuple[str, str, float | None]] = field(default_factory=lambda: [("c", "r", None)])


Q, C, R = user("q"), answer("c"), answer("r")
BOTH = {"chosen": "c", "rejected": "r"}
WHOLE = {"chosen": [Q, C], "rejected": [Q, R]}
ATTRIBUTES = {"correctness": 3, "coherence": 4, "complexity": 2, "verbosity": 1}
CHATML = "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"


def completion(text: str, overall: float | None, helpfulness: str) -> dict[str, Any]:
    ratings = {"helpfulness": {"Rating": helpfulness, "Rationale": "x"}, "honesty": {"Rating": "N/A"}}
    return {
        "model": "m",
        "response": text,
        "overall_score": overall,
        "annotations": ratings,
        "custom_system_prompt": "x",
    }


def output(text: str, label: str | None, reward: float) -> dict[str, Any]:
    detail = [{"dimension": "helpfulness", "value": reward, "reason": "x"}]
    rewards = {"total_score": reward, "rewards_detail": detail}
    return {**answer(text), "content_label": label, "rewards": rewards}


STRINGS = {"prompt": "q", "chosen": "c", "rejected": "r"}
SHAREGPT = {"conversations": [turn("human", "q")], "chosen": turn("gpt", "c"), "rejected": turn("gpt", "r")}
MESSAGES = {"prompt": "q", "chosen": [user("q"), answer("c")], "rejected": [user("q"), answer("r")]}
HH = {"chosen": "\n\nHuman: q\n\nAssistant: c", "rejected": "\n\nHuman: q\n\nAssistant: r"}
SAFER = {"prompt": "q", "response_0": "a", "response_1": "b", "better_response_id": 0, "safer_response_id": 1}
JUDGE = {"instruction": "q", "output_1": "a", "output_2": "b", "preference": 1}
STEER = {"context": [user("q")], "response1": "a", "response2": "b", "overall_preference": 1}
RANKED = {"prompt": "q", "responses": ["a", "b", "c"], "scores": [1, 2, 3]}
SINGLE = {"messages": [user("q"), answer("c")], "label": True}
OPENAI = {"input": {"messages": [user("q")]}, "preferred_output": [answer("c")], "non_preferred_output": [answer("r")]}
ALPACA = {"instruction": "q", "history": [["a", "b"]], "chosen": "c", "rejected": "r"}

VOTED = {"prompt": '["q", "q2"]', "response_a": '["x", "c"]', "response_b": '["x", "r"]'}
VOTED |= {"winner_model_a": "1", "winner_model_b": "0"}
SCORED = {"prompt": "q", "answer_0": "c", "answer_1": "r", "score_0": 0.5, "score_1": -0.5}
SUMMARIES = {"info": {"article": "p"}, "summaries": [{"text": "c"}, {"text": "r"}], "choice": 0}
GOOD_AND_BAD = {"prompt": "q", "chosen": ["a", "b"], "rejected": ["x"]}

HELPSTEER = [
    {"prompt": "q", "response": "c", "helpfulness": 4, **ATTRIBUTES},
    {"prompt": "q", "response": "r", "helpfulness": 3, **ATTRIBUTES},
    {
        "prompt": "<extra_id_1>User\nq\n<extra_id_1>Assistant\na\n<extra_id_1>User\nq2",
        "response": "x",
        "helpfulness": 1,
    },
    {"prompt": "q\n<extra_id_1>Assistant\na\n<extra_id_1>User\nq2", "response": "x", "helpfulness": 1},
    {"prompt": "q\n<extra_id_1>Assistant\na\n<extra_id_1>User\nq2", "response": "y", "helpfulness": 2},
]

SAMPLES = [
    # prompt and answers as text
    Sample(format="strings", row={"prompt": "q", **BOTH, "unknown": {"extra": 1}}),
    Sample(format="strings", row={"prompt": "q", **BOTH, "system": "s"}, prompt=[system("s"), Q]),
    Sample(format="strings", row={"prompt": "q", **BOTH, "margin": 2}, pairs=[("c", "r", 2.0)]),
    Sample(format="strings", row={"prompt": [Q, answer("a"), user("x")], **BOTH}, prompt=[Q, answer("a"), user("x")]),
    Sample(format="strings", row={"prompt": "q", "chosen_response": "c", "rejected_response": "r"}),
    Sample(format="strings", row={"prompt": CHATML, **BOTH}, prompt=[rendered(CHATML)]),
    Sample(
        format="strings",  # whole conversations, the prompt once more
        row={"prompt": CHATML, "chosen": CHATML + "c", "rejected": CHATML + "r"},
        prompt=[rendered(CHATML)],
    ),
    Sample(
        format="texts",
        row={"chosen": "The sky is blue.", "rejected": "The sky is green."},
        prompt=[user("The sky is")],
        pairs=[("blue.", "green.", None)],
    ),
    Sample(format="texts", row={"chosen": CHATML + "c", "rejected": CHATML + "r"}, prompt=[rendered(CHATML)]),
    Sample(format="orca", row={"system": "s", "question": "q", **BOTH}, prompt=[system("s"), Q]),
    Sample(format="orca", row={"system": "", "input": "q", **BOTH, "rating": [9, 7]}),
    Sample(
        format="orca",
        row={"system": "", "input": "q", **BOTH, "rating": [6.0, 9.0], "order": ["rejected", "chosen"]},
        pairs=[("c", "r", 3.0)],
    ),
    Sample(format="orca", row={"question": "q", "response_j": "c", "response_k": "r"}),
    Sample(format="alpaca_ranking", row={"instruction": "do", "input": "", **BOTH}, prompt=[user("do")]),
    Sample(format="alpaca_ranking", row={"instruction": "do", "input": "it", **BOTH}, prompt=[user("do\n\nit")]),
    Sample(
        format="alpaca_ranking",
        row={"instruction": "do", "history": [["q", "a"]], "system": "s", **BOTH},
        prompt=[system("s"), Q, answer("a"), user("do")],
    ),
    Sample(format="strings", row={"prompt": "q", **BOTH, "history": [["a", "b"]]}, prompt=[user("a"), answer("b"), Q]),
    Sample(
        format="strings",
        row={"prompt": "q", **BOTH, "history": [user("a"), answer("b")]},
        prompt=[user("a"), answer("b"), Q],
    ),
    Sample(format="orca", row={"input": "q", "accepted": "c", "rejected": "r"}),
    Sample(
        format="orca",
        row={"query": "The sky is", "chosen": "c is", "rejected": "c was"},
        prompt=[user("The sky is")],
        pairs=[("c is", "c was", None)],
    ),
    Sample(format="alpaca_outputs", row={"instruction": "q", "input": "", "output": ["c", "r"]}),
    # dialogues in one text
    Sample(format="hh", row={"chosen": "\n\nHuman: q\n\nAssistant: c", "rejected": "\n\nHuman: q\n\nAssistant: r"}),
    Sample(
        format="hh",
        row={
            "chosen": "\n\nHuman: q\n\nAssistant: a\n\nAssistant: b\n\nHuman: q2\n\nAssistant:  c\n",
            "rejected": "\n\nHuman: q\n\nAssistant: a\n\nAssistant: b\n\nHuman: q2\n\nAssistant: r",
        },
        prompt=[Q, answer("a\n\nb"), user("q2")],
    ),
    Sample(
        format="hh", row={"prompt": "\n\nHuman: q\n\nAssistant:", "chosen": " c", "rejected": " r", "response": " c"}
    ),
    # messages
    Sample(format="messages", row={"prompt": "q", **WHOLE, "messages": [Q, C]}),
    Sample(
        format="messages",
        row={"prompt": "q", **WHOLE, "score_chosen": 8.5, "score_rejected": 6.0},
        pairs=[("c", "r", 2.5)],
    ),
    Sample(
        format="messages",
        row={"prompt": "q", **WHOLE, "chosen-rating": 4, "rejected-rating": "3.5"},
        pairs=[("c", "r", 0.5)],
    ),
    Sample(format="messages", row={"prompt": [Q], "chosen": [C], "rejected": [R]}),
    Sample(format="messages", row={"prompt": "q", "chosen": [C], "rejected": [R]}),
    Sample(format="messages", row=WHOLE),
    Sample(
        format="messages",  # the prompt column tells only the last turn of a longer conversation
        row={
            "prompt": "q2",
            "chosen": [system("s"), Q, answer("a"), user("q2"), C],
            "rejected": [system("s"), Q, answer("a"), user("q2"), R],
        },
        prompt=[system("s"), Q, answer("a"), user("q2")],
    ),
    Sample(format="messages", row={"prompt": "q ", **WHOLE}),
    Sample(format="messages", row={"chosen_conversations": [Q, C], "rejected_conversations": [Q, R]}),
    Sample(format="messages", row={"chosen_messages": [Q, C], "rejected_messages": [Q, R]}),
    Sample(
        format="messages",  # as Arrow tables keep a list of structs
        row={
            "prompt": "q",
            "chosen": {"role": ["assistant"], "content": ["c"]},
            "rejected": {"role": ["assistant"], "content": ["r"]},
        },
    ),
    Sample(
        format="messages",  # as tables of text keep it
        row={
            "prompt": "q",
            "chosen": '[{"role": "assistant", "content": "c"}]',
            "rejected": '[{"role": "assistant", "content": "r"}]',
        },
    ),
    Sample(
        format="sharegpt",
        row={"conversations": [turn("human", "q")], "chosen": turn("gpt", "c"), "rejected": turn("gpt", "r")},
    ),
    Sample(
        format="sharegpt",
        row={
            "system": "be kind",
            "conversations": [turn("user", "q"), turn("assistant", "a"), turn("human", "q2")],
            **BOTH,
        },
        prompt=[system("be kind"), Q, answer("a"), user("q2")],
    ),
    Sample(
        format="sharegpt",
        row={"conversations": [turn("system", "s"), turn("human", "q")], **BOTH, "system": "other"},
        prompt=[system("s"), Q],
    ),
    Sample(format="sharegpt", row={"messages": [Q], "chosen": C, "rejected": R}),
    Sample(format="sharegpt", row={"context": [Q], **BOTH}),
    Sample(format="openai", row={"input": {"messages": [Q]}, "preferred_output": [C], "non_preferred_output": [R]}),
    Sample(
        format="openai", row={"input": {"messages": [Q]}, "preferred_completion": [C], "non_preferred_completion": [R]}
    ),
    Sample(format="swift", row={"messages": [Q, C], "rejected_response": "r"}),
    Sample(format="swift", row={"messages": [Q, C], "rejected_messages": [Q, R]}),
    Sample(
        format="swift_query",
        row={"query": "q", "response": "c", "rejected_response": "r", "history": [["a", "b"]], "system": "s"},
        prompt=[system("s"), user("a"), answer("b"), Q],
    ),
    Sample(
        format="swift_query",
        row={"instruction": "do", "input": "it", "output": "c", "rejected_response": "r"},
        prompt=[user("do\n\nit")],
    ),
    Sample(format="messages", row={"prompt": "q", "chosen": {"answer": "c", "rank": 1}, "rejected": {"answer": "r"}}),
    Sample(format="messages", row={"question": "q", "chosen": [C], "rejected": [R]}),
    Sample(format="messages", row={"question": "judge this", **WHOLE}),
    Sample(
        format="sharegpt",
        row={"trajectory": [turn("user", "q"), turn("assistant", "a"), turn("user", "x")], **BOTH},
        prompt=[Q, answer("a"), user("x")],
    ),
    Sample(format="sharegpt", row={"context": [Q], "good_edited_response": "c", "bad_edited_response": "r"}),
    Sample(format="sharegpt", row={"messages": [Q], "chosen_response": "c", "rejected_response": "r"}),
    # two answers and a label
    Sample(
        format="pku_saferlhf",
        row={"prompt": "q", "response_0": "r", "response_1": "c", "better_response_id": 1, "safer_response_id": 0},
    ),
    Sample(
        format="pku_saferlhf",
        row={"prompt": "q", "response_0": "c", "response_1": "r", "better_response_id": 0, "is_response_0_safe": True},
    ),
    Sample(
        format="shp",
        row={"history": "q", "human_ref_A": "c", "human_ref_B": "r", "labels": 1, "score_A": 40, "score_B": 4},
        pairs=[("c", "r", 36.0)],
    ),
    Sample(format="shp", row={"history": "q", "human_ref_A": "r", "human_ref_B": "c", "labels": "0"}),
    Sample(
        format="helpsteer2_preference",
        row={"prompt": "q", "response_1": "c", "response_2": "r", "preference_strength": -2},
        pairs=[("c", "r", 2.0)],
    ),
    Sample(
        format="helpsteer3",
        row={"context": [Q, answer("a"), user("q2")], "response1": "r", "response2": "c", "overall_preference": 3},
        prompt=[Q, answer("a"), user("q2")],
        pairs=[("c", "r", 3.0)],
    ),
    Sample(format="judge", row={"instruction": "q", "output_1": "r", "output_2": "c", "preference": 2}),
    Sample(
        format="judge",
        row={"instruction": "do", "input": "it", "output_1": "c", "output_2": "r", "preference": 1.25},
        prompt=[user("do\n\nit")],
    ),
    Sample(format="response_ab", row={"prompt": "q", "response_a": "r", "response_b": "c", "winner": "model_b"}),
    Sample(format="response_ab", row={"question": "q", "answer_A": "c", "answer_B": "r", "preferred": "A"}),
    Sample(format="judge", row={"input": "q", "output_1": "r", "output_2": "c", "label": "2"}),
    Sample(format="response_ab", row={"question": "q", "response_A": "r", "response_B": "c", "label": "B>A"}),
    Sample(
        format="response_ab",
        row={
            "instruction": "judge this",
            "orig_instruction": "q",
            "orig_response_A": "r",
            "orig_response_B": "c",
            "orig_preference": "B",
            "orig_score_A": "2",
            "orig_score_B": "5",
        },
        pairs=[("c", "r", 3.0)],
    ),
    Sample(
        format="scored_pair",
        row={
            "question": {"full_text": "q", "id": "x"},
            "answer_0": "r",
            "answer_1": "c",
            "score_0": -0.5,
            "score_1": 0.5,
        },
        pairs=[("c", "r", 1.0)],
    ),
    Sample(
        format="scored_pair",
        row={"prompt": "q", "response_a": "c", "response_b": "r", "rating_a": "4", "rating_b": "1"},
        pairs=[("c", "r", 3.0)],
    ),
    Sample(
        format="summaries",
        row={
            "info": {"subreddit": "s", "title": "t", "post": "p", "article": None},
            "summaries": [{"text": " r", "policy": "x"}, {"text": " c", "policy": "y"}],
            "choice": 1,
        },
        prompt=[user("SUBREDDIT: r/s\n\nTITLE: t\n\nPOST: p\n\nTL;DR:")],
        pairs=[(" c", " r", None)],
    ),
    Sample(
        format="summaries",
        row=SUMMARIES,
        prompt=[user("Article:\n\np\n\nTL;DR:")],
    ),
    Sample(
        format="arena",  # MT-bench's set: the vote is on the first answer
        row={
            "conversation_a": [Q, C, user("x"), answer("y")],
            "conversation_b": [Q, R, user("x"), answer("z")],
            "winner": "model_a",
            "turn": 1,
        },
    ),
    Sample(
        format="arena_ratings",
        row={"conv_A": [Q, R], "conv_B": [Q, C], "conv_A_rating": 1, "conv_B_rating": 4.5},
        pairs=[("c", "r", 3.5)],
    ),
    Sample(
        format="arena_texts",
        row=VOTED,
        prompt=[Q, answer("x"), user("q2")],
    ),
    Sample(format="arena", row={"conversation_a": [Q, R], "conversation_b": [Q, C], "winner": "model_b", "turn": 1}),
    # lists
    Sample(
        format="ultrafeedback",
        row={
            "instruction": "q",
            "completions": [completion("r", 3, "2"), completion("c", 8.5, "5"), completion("m", 6, "4")],
        },
        pairs=[("c", "m", 2.5), ("c", "r", 5.5), ("m", "r", 3.0)],
    ),
    Sample(
        format="ultrafeedback",
        row={"instruction": "q", "completions": [completion("c", None, "5"), completion("r", None, "4")]},
        pairs=[("c", "r", 1.0)],
    ),
    Sample(
        format="good_and_bad",
        row=GOOD_AND_BAD,
        pairs=[("a", "x", 1.0), ("b", "x", 1.0)],
    ),
    Sample(
        format="good_and_bad",
        row={"prompt": "q", "chosen": "a", "rejected": ["x", "y"]},
        pairs=[("a", "x", 1.0), ("a", "y", 1.0)],
    ),
    Sample(format="good_and_bad", row={"prompt": [Q], "chosen": [[C]], "rejected": [[R]]}, pairs=[("c", "r", 1.0)]),
    Sample(format="ranked", row={"prompt": "q", "responses": ["r", "c"], "ranks": [2, 1]}, pairs=[("c", "r", 1.0)]),
    Sample(format="ranked", row={"prompt": [Q], "responses": [[R], [C]], "scores": [0.5, 2]}, pairs=[("c", "r", 1.5)]),
    Sample(
        format="ranked",
        row={
            "prompt": "\n\nHuman: q\n\nAssistant: ",
            "answers": [{"answer": "r", "rank": 3}, {"answer": "c", "rank": 1}],
        },
        pairs=[("c", "r", 2.0)],
    ),
    Sample(
        format="ranked",
        row={"question": "q", "answers": [{"text": "c", "pm_score": 4}, {"text": "r", "pm_score": 1}]},
        pairs=[("c", "r", 3.0)],
    ),
    Sample(
        format="rm_gallery",
        row={
            "evaluation_sample": {"input": [Q], "outputs": [output("r", "rejected", 0.0), output("c", "chosen", 1.0)]}
        },
        pairs=[("c", "r", 1.0)],
    ),
    Sample(
        format="rm_gallery",
        row={"evaluation_sample": {"input": [Q], "outputs": [output("r", None, 0.25), output("c", None, 1.0)]}},
        pairs=[("c", "r", 0.75)],
    ),
    # token ids
    Sample(
        format="tokens",
        row={"prompt_input_ids": [5, 6], "chosen_input_ids": [7], "rejected_input_ids": [8, 9]},
        prompt=[],
    ),
    Sample(format="tokens", row={"prompt_ids": [5], "chosen_ids": [5, 7], "rejected_ids": [5, 8]}, prompt=[]),
    # unpaired
    Sample(format="unpaired_messages", row={"messages": [Q, C], "label": True}, pairs=[("c", "", None)]),
    Sample(
        format="unpaired_messages",
        row={"conversations": [turn("human", "q"), turn("gpt", "r")], "kto_tag": False},
        pairs=[("", "r", None)],
    ),
    Sample(format="unpaired", row={"prompt": "q", "completion": "c", "label": True}, pairs=[("c", "", None)]),
    Sample(format="unpaired", row={"prompt": [Q], "completion": [R], "label": "false"}, pairs=[("", "r", None)]),
    Sample(format="unpaired_alpaca", row={"instruction": "q", "output": "r", "kto_tag": 0}, pairs=[("", "r", None)]),
]
