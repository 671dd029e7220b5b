"""Chat templates in the styles of well-known models, for the tiny tokenizers, and what every rendering must hold to."""

from itertools import pairwise
from typing import Any

from transformers import PreTrainedTokenizerBase

from dpo.data.pair import Message, Pair, Reject, Spans, TokenizedPair
from dpo.data.text.template import ChatTemplate
from dpo.data.text.tokenize import tokenize_pairs

CALL = "[call]{{ c.function.name }} {{ c.function.arguments | tojson }}[/call]"
CALLS = "{% for c in m.tool_calls or [] %}" + CALL + "{% endfor %}"
TOOLS = "{% if tools %}<|im_start|>tools\n{{ tools | tojson }}<|im_end|>\n{% endif %}"
CHATML_TOOLS = (
    TOOLS + "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}" + CALLS + "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Tells by itself which text an assistant writes.
MARKED = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
    + CALLS
    + "<|im_end|>{% endgeneration %}{% else %}{{ m.content }}<|im_end|>{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Like Qwen3: thoughts of turns before the last question are left out, the last answer has a thought, be it empty.
THINKING = (
    "{% set ns = namespace(last=-1) %}"
    "{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' %}{% set parts = m.content.split('</think>') %}"
    "{% set thought = m.reasoning_content or (parts[0].split('<think>')[-1] if parts | length > 1 else '') %}"
    "{% if loop.index0 > ns.last and (loop.last or thought) %}<think>\n{{ thought.strip() }}\n</think>\n\n{% endif %}"
    "{{ parts[-1].lstrip('\n') }}" + CALLS + "{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Like Qwen3.5 and Nemotron: every answer has a thought, and the generation header (HEADER) opens it.
OPENING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' %}{% set parts = m.content.split('</think>') %}<think>\n"
    "{{ parts[0].split('<think>')[-1] | trim if parts | length > 1 }}\n</think>\n\n{{ parts[-1].lstrip('\n') }}"
    "{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\nHEADER{% endif %}"
)
# Like Llama 2: the system turn stands in the first user turn, every question with its answer is a text with BOS.
MERGING = (
    "{% if messages[0].role == 'system' %}{% set system = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' %}"
    "{% set turns = messages[1:] %}{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
    "{% for m in turns %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if m.role == 'user' %}{{ bos_token + '[INST] ' + (system if loop.first else '') + m.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content | trim + ' ' + eos_token }}{% endif %}{% endfor %}"
)
# Like Gemma: no system turns, other role names, every text trimmed.
STRICT = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<|im_start|>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>model\n{% endif %}"
)
# Like Qwen2.5 and Llama 3.1: a system turn of its own, and today's date.
DATED = (
    "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}{% set turns = messages[1:] %}"
    "{% else %}{% set system = 'Be kind.' %}{% set turns = messages %}{% endif %}"
    "<|im_start|>system\n{{ system }} Today: {{ strftime_now('%d %b %Y') }}<|im_end|>\n"
    "{% for m in turns %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def says(text: str, **fields: Any) -> Message:
    return {"role": "assistant", "content": text, **fields}


def calls(text: str, name: str, **arguments: Any) -> Message:
    function = {"name": name, "arguments": arguments}
    return says(text, tool_calls=[{"type": "function", "function": function}])


def result(text: str) -> Message:
    return {"role": "tool", "content": text}


def tool(name: str, about: str = "") -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "description": about, "parameters": {}}}


AGENT = [calls("Let me see.", "add", a=1, b=2), result("three"), says("It is 3.")]


def many(prompt: list[Message], chosen: list[Message], **fields: Any) -> Pair:
    """A pair whose rejected answer is one short turn."""
    return Pair(**{"prompt": prompt, "chosen": chosen, "rejected": [says("no")], "source": "a:1", **fields})


def under(jinja: str, pair: Pair, tokenizer: PreTrainedTokenizerBase) -> TokenizedPair | Reject:
    return next(tokenize_pairs([pair], tokenizer, ChatTemplate(name="test", jinja=jinja)))


def ids_under(jinja: str, pair: Pair, tokenizer: PreTrainedTokenizerBase) -> TokenizedPair:
    found = under(jinja, pair, tokenizer)
    assert isinstance(found, TokenizedPair), found
    return found


def stretches(ids: list[int], context: Spans, tokenizer: PreTrainedTokenizerBase) -> list[tuple[str, bool]]:
    """[(text, scored), ...] of an answer."""
    bounds = [0, *(bound for span in context for bound in span), len(ids)]
    parts = [ids[start:end] for start, end in pairwise(bounds)]
    return [(str(tokenizer.decode(part)), number % 2 == 0) for number, part in enumerate(parts) if part]


def scored(found: TokenizedPair, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The scored texts of the chosen answer."""
    return [text for text, is_scored in stretches(found.chosen_ids, found.chosen_context, tokenizer) if is_scored]
