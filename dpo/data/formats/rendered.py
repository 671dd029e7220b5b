"""Prompts that somebody rendered with a chat template before: told by the markers they begin with."""

import re

# The text that such a prompt opens with, behind the BOS that some templates write out. Text of a user does not begin
# like this; inside a text the same markers say nothing, since they may be quoted or injected.
OPENING = re.compile(
    r"\s*(?:<s>|<bos>|<\|begin_of_text\|>|<\|startoftext\|>|<\uff5cbegin\u2581of\u2581sentence\uff5c>)?\s*"
    r"(?:<\|im_start\|>|\[INST\]|<\|start_header_id\|>|<start_of_turn>|<\|turn>|<\|(?:system|user)\|>|<\|start\|>"
    r"|<\uff5cUser\uff5c>|<extra_id_0>System|### Instruction:|Below is an instruction that describes a task)"
)
# What opens the answer: the end of a rendered prompt.
ANSWER = re.compile(
    r"<\|im_start\|>assistant\n|\[/INST\]|<\|start_header_id\|>assistant<\|end_header_id\|>\n\n|<start_of_turn>model\n"
    r"|<\|turn>model\n|<\|assistant\|>\n?|<\uff5cAssistant\uff5c>|### Response:\n?"
)


def is_rendered(text: object) -> bool:
    """Whether `text` begins as chat templates let a prompt begin."""
    return isinstance(text, str) and OPENING.match(text) is not None


def answer_start(text: str) -> int:
    """Where the last answer in a rendered conversation begins; 0 where none does."""
    return max((match.end() for match in ANSWER.finditer(text)), default=0)
