"""Dialogues in one text, each turn behind its speaker's name: Anthropic HH and HelpSteer2."""

import re
from itertools import pairwise

from dpo.data.pair import Message

HH = re.compile(r"\n\n(Human|Assistant):")
HELPSTEER = re.compile(r"(?:^|\n)<extra_id_1>(User|Assistant)\n")
SPEAKERS = {"Human": "user", "User": "user", "Assistant": "assistant"}


def is_transcript(text: object) -> bool:
    """Whether `text` is a dialogue in the HH form."""
    return isinstance(text, str) and text.lstrip().startswith("Human:") and "Assistant:" in text


def transcript_turns(text: str) -> list[Message]:
    """The turns of an HH dialogue, the blanks around each taken off.

    Some dialogues of the set name one speaker twice in a row (13 of the 2,312 in its harmless test set): those turns
    are one, with a blank line between, since chat templates ask for turns that alternate.
    """
    return _turns("\n\n" + text.lstrip(), HH)


def prompt_turns(text: str) -> list[Message] | None:
    """The turns of a prompt that is a dialogue: HH (which ends with "Assistant:") or HelpSteer2 ("<extra_id_1>User"
    lines between the turns); None where it is neither."""
    if is_transcript(text) and text.rstrip().endswith("\n\nAssistant:"):
        return _turns("\n\n" + text.strip().removesuffix("Assistant:"), HH)
    if HELPSTEER.search(text):
        opened = text if text.startswith("<extra_id_1>") else f"<extra_id_1>User\n{text}"
        return _turns(opened, HELPSTEER)
    return None


def _turns(text: str, speaker: re.Pattern[str]) -> list[Message]:
    marks = [*speaker.finditer(text), None]
    turns: list[Message] = []
    for mark, following in pairwise(marks):
        if mark is None:
            continue
        role = SPEAKERS[mark.group(1)]
        said = text[mark.end() : following.start() if following else None].strip()
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] = f"{turns[-1]['content']}\n\n{said}".strip()
        else:
            turns.append({"role": role, "content": said})
    return turns
